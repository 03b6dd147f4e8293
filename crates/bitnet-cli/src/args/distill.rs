//! How `bitnet train` learns from another model.

use bitnet_training::distillation::DistillOptions;
use clap::Args as ClapArgs;
use clap::builder::NonEmptyStringValueParser;

use super::values::{count, rate, weight};

#[derive(Debug, ClapArgs)]
pub(crate) struct DistillArgs {
    /// What to learn from with --recipe distill: a float master, or a Llama model in full precision
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub(super) teacher: Option<String>,
    /// What the logits of both are divided by [default: 2]
    #[arg(long, value_name = "F", requires = "teacher", value_parser = rate, allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Weight of the divergence of the logits [default: 2]
    #[arg(long, value_name = "F", requires = "teacher", value_parser = weight, allow_negative_numbers = true)]
    logit_weight: Option<f64>,
    /// Weight of the divergence of the attention relations [default: 0.1]
    #[arg(long, value_name = "F", requires = "teacher", value_parser = weight, allow_negative_numbers = true)]
    relation_weight: Option<f64>,
    /// Layer of the relations in both models, from 0 [default: the last of each]
    #[arg(long, value_name = "N", requires = "teacher")]
    relation_layer: Option<usize>,
    /// Heads of the relations [default: what divides the heads of keys of both]
    #[arg(long, value_name = "N", requires = "teacher", value_parser = count, allow_negative_numbers = true)]
    relation_heads: Option<usize>,
    /// Part of the steps over which quantization is blended in [default: 0]
    #[arg(long, value_name = "F", requires = "teacher", value_parser = weight, allow_negative_numbers = true)]
    ramp: Option<f64>,
}

impl DistillArgs {
    pub(super) fn options(&self) -> DistillOptions {
        let default = DistillOptions::default();
        let or = |value: Option<f64>, default: f32| value.map_or(default, |value| value as f32);
        DistillOptions {
            temperature: or(self.temperature, default.temperature),
            logit_weight: or(self.logit_weight, default.logit_weight),
            relation_weight: or(self.relation_weight, default.relation_weight),
            relation_layer: self.relation_layer,
            relation_heads: self.relation_heads,
            ramp: self.ramp.unwrap_or(default.ramp),
        }
    }
}
