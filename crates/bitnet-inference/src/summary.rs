//! What a model is and what it costs to run, for `bitnet inspect`.

use serde::Serialize;

use crate::checkpoint::{Checkpoint, Decision};
use crate::config::{ScaleSense, WeightForm};
use crate::model::adapter::{Adapter, AdapterSummary};
use crate::model::{Linear, Model};
use crate::rope::RopeScaling;
use crate::tokenizer::Tokenizer;

/// A model in figures. All sizes follow from the tensors; nothing is estimated.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Where it was loaded from.
    pub model: String,
    /// The format of its files.
    pub format: String,
    /// What they leave open, and what was made of it.
    pub decisions: Vec<Decision>,
    /// Architecture.
    pub family: String,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward network.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Nonlinearity.
    pub activation: &'static str,
    /// Positions the model was built for.
    pub context_length: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched.
    pub rope_scaling: String,
    /// All weights, norms and biases included.
    pub parameters: usize,
    /// Ternary ones among them.
    pub ternary_parameters: usize,
    /// What the stored weights are: packed codes, masters ternarised at load, or floats that are ternary already.
    pub weights: &'static str,
    /// What ternary linears multiply: int8 or float.
    pub activations: &'static str,
    /// What a stored scale does; absent for masters.
    pub scale_sense: Option<&'static str>,
    /// Whether the head is the embedding.
    pub tied_head: bool,
    /// Bytes of all weights in memory.
    pub weight_bytes: usize,
    /// `weight_bytes / parameters`.
    pub bytes_per_weight: f64,
    /// Bytes of weights that one decoded token needs if nothing is left out or packed closer: every block, the head, one
    /// row of the embedding. `Sequence::traffic` counts what is read.
    pub bytes_per_token: usize,
    /// Kind of tokenizer, where there is one.
    pub tokenizer: Option<&'static str>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// First token of a text.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Whether the checkpoint has a chat template.
    pub chat_template: bool,
    /// What is added to the linears, where something is; the other figures are without it.
    pub adapter: Option<AdapterSummary>,
}

impl Summary {
    /// The figures of a model; those of its text are still missing.
    pub(crate) fn new(checkpoint: &Checkpoint, model: &Model) -> Self {
        let c = &model.config;
        let vectors = model.vector_elements();
        let embedding = model.embedding.rows() * model.embedding.cols();
        let parameters = model.linears().map(Linear::weights).sum::<usize>() + embedding + vectors;
        let linear_bytes = model.linears().map(Linear::weight_bytes).sum::<usize>();
        let vector_bytes = vectors * size_of::<f32>();
        let weight_bytes = linear_bytes + vector_bytes + model.embedding.size_bytes();
        let embedding_read = match model.head {
            None => model.embedding.size_bytes(),
            Some(_) => model.embedding.size_bytes() / model.embedding.rows(),
        };
        let is_packed = model.stored == WeightForm::Packed;
        Self {
            model: checkpoint.path().display().to_string(),
            format: checkpoint.format(),
            decisions: [checkpoint.decisions(), &model.decisions].concat(),
            family: c.architecture.name.to_owned(),
            layers: c.layers,
            hidden_size: c.hidden_size,
            intermediate_size: c.intermediate_size,
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            activation: c.activation.name(),
            context_length: c.context_length,
            rope_theta: c.rope_theta,
            rope_scaling: match &c.rope_scaling {
                RopeScaling::None => "none".to_owned(),
                RopeScaling::Linear { factor } => format!("linear, factor {factor}"),
                RopeScaling::Llama3(llama3) => format!("llama3, factor {}", llama3.factor),
                RopeScaling::Factors(factors) => {
                    format!(
                        "a factor for each frequency, up to {}",
                        factors.iter().fold(0.0_f32, |a, b| a.max(*b))
                    )
                }
            },
            parameters,
            ternary_parameters: model.ternary_parameters(),
            weights: match model.stored {
                WeightForm::Packed => "packed",
                WeightForm::Master => "master",
                WeightForm::Ternary => "ternary",
            },
            activations: c.quantization.activations.name(),
            scale_sense: is_packed.then_some(match c.quantization.scale_sense {
                ScaleSense::Multiply => "multiply",
                ScaleSense::Divide => "divide",
            }),
            tied_head: model.head.is_none(),
            weight_bytes,
            bytes_per_weight: weight_bytes as f64 / parameters as f64,
            bytes_per_token: linear_bytes + vector_bytes + embedding_read,
            tokenizer: None,
            vocab_size: c.vocab_size,
            bos: c.bos,
            eos: c.eos.clone(),
            chat_template: false,
            adapter: model.adapter.as_ref().map(Adapter::summary),
        }
    }

    /// Adds what is known of tokenizer and template.
    pub(crate) fn describe_text(&mut self, tokenizer: Option<&Tokenizer>, has_chat_template: bool) {
        self.tokenizer = tokenizer.map(Tokenizer::kind);
        self.chat_template = has_chat_template;
    }
}
