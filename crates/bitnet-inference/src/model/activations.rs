//! What the ternary linears of a model multiply, where its config does not say.

use std::collections::BTreeSet;

use bitnet_quant::Granularity;

use super::Model;
use crate::checkpoint::Decision;
use crate::config::{ActivationMode, WeightForm};

const ABOUT: &str = "activations";
const OPTION: &str = "--activations int8|float";

impl Model {
    /// Decides what no `quantization_config` says. BitNet's rounding belongs to one scale per matrix; where weights are
    /// ternary by themselves, or have several scales, transformers and llama.cpp multiply floats.
    pub(super) fn decide_activations(&mut self) {
        let scales: BTreeSet<String> = self
            .ternary_linears()
            .map(|(_, linear)| linear.weight().scales().granularity().to_string())
            .collect();
        let is_ternary = self.stored == WeightForm::Ternary;
        if !is_ternary && scales.iter().all(|scale| *scale == Granularity::Tensor.to_string()) {
            return;
        }
        self.config.quantization.activations = ActivationMode::Float;
        let scales = scales.into_iter().collect::<Vec<_>>().join(", ");
        let why = if is_ternary { "the floats stored are ternary" } else { "only the weights are quantized" };
        self.decisions.push(Decision {
            about: ABOUT,
            chosen: "not quantized".to_owned(),
            reason: format!("since {why} ({scales}) and nothing asks for int8"),
            option: OPTION,
            is_guess: false,
        });
    }

    /// Takes `mode` for the activations, whatever the checkpoint says.
    pub fn set_activations(&mut self, mode: ActivationMode) {
        self.config.quantization.activations = mode;
        self.decisions.retain(|decision| decision.about != ABOUT);
        let (chosen, reason) = (mode.name().to_owned(), "as asked for".to_owned());
        self.decisions.push(Decision { about: ABOUT, chosen, reason, option: OPTION, is_guess: false });
    }
}
