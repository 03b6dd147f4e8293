//! Models of a given shape with random weights: what they cost to run is what a trained model of the shape costs, and
//! they need no download.
//!
//! Four in ten codes are zero; scales, norms and embedding are such that activations keep their order of magnitude
//! from layer to layer, half of the gates are positive, and logits spread by a few units.

pub(crate) mod random;
mod save;
mod tensors;

use std::collections::BTreeMap;

use bitnet_core::{Buffer, ThreadPool};
use bitnet_inference::{Checkpoint, Model, Result};
use serde_json::{Value, json};

/// A model to make up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synthetic {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub intermediate_size: usize,
    /// Rows of the embedding, which is the head too.
    pub vocab_size: usize,
    /// Positions.
    pub context_length: usize,
}

impl Synthetic {
    /// The shape of microsoft/bitnet-b1.58-2B-4T.
    pub const BITNET_2B_4T: Self = Self {
        name: "2b-4t",
        hidden_size: 2560,
        layers: 30,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        intermediate_size: 6912,
        vocab_size: 128_256,
        context_length: 4096,
    };

    /// A small one, for tests.
    pub const TINY: Self = Self {
        name: "tiny",
        hidden_size: 256,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        intermediate_size: 512,
        vocab_size: 1024,
        context_length: 4096,
    };

    /// All of them.
    pub const ALL: [Self; 2] = [Self::BITNET_2B_4T, Self::TINY];

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|synthetic| synthetic.name == name)
    }

    /// The model in the form of a checkpoint, in memory; made with the threads of `pool`.
    pub fn checkpoint(&self, pool: &ThreadPool) -> Result<Checkpoint> {
        let file =
            |name: &str, content: &Value| (name.to_owned(), Buffer::from(content.to_string().into_bytes()));
        let files = BTreeMap::from([
            file("config.json", &self.config_json()),
            file("generation_config.json", &self.generation_config_json()),
        ]);
        let tensors = tensors::specs(self)
            .into_iter()
            .map(|spec| Ok((spec.name.clone(), spec.tensor(pool.threads())?)))
            .collect::<Result<_>>()?;
        Ok(Checkpoint::from_memory(format!("{} (synthetic)", self.name), files, tensors))
    }

    /// The model; made with the threads of `pool`.
    pub fn model(&self, pool: &ThreadPool) -> Result<Model> {
        Model::load(&self.checkpoint(pool)?, pool)
    }

    fn config_json(&self) -> Value {
        let (bos, eos) = self.special_tokens();
        json!({
            "architectures": ["BitNetForCausalLM"],
            "model_type": "bitnet",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "relu2",
            "max_position_embeddings": self.context_length,
            "initializer_range": 0.02,
            "rms_norm_eps": 1e-5,
            "use_cache": true,
            "rope_theta": 500_000.0,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "tie_word_embeddings": true,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "torch_dtype": "bfloat16",
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "offline",
            },
        })
    }

    fn generation_config_json(&self) -> Value {
        let (bos, eos) = self.special_tokens();
        json!({"bos_token_id": bos, "eos_token_id": eos, "do_sample": false})
    }

    /// First and last token of a text: at the place they have in Llama 3's vocabulary, whose last 256 are special.
    fn special_tokens(&self) -> (usize, usize) {
        let first_special = self.vocab_size - 256;
        (first_special, first_special + 1)
    }
}

#[cfg(test)]
mod tests {
    use bitnet_inference::config::WeightForm;

    use super::*;

    #[test]
    fn names_are_found_and_others_are_not() {
        for synthetic in Synthetic::ALL {
            assert_eq!(Synthetic::parse(synthetic.name), Some(synthetic));
        }
        assert_eq!(Synthetic::parse("3b"), None);
    }

    #[test]
    fn the_model_has_the_shape_that_is_asked_for() {
        let pool = ThreadPool::new(2).unwrap();
        let shape = Synthetic::TINY;
        let model = shape.model(&pool).unwrap();
        assert_eq!((model.stored, model.head.is_none()), (WeightForm::Packed, true));
        assert_eq!((model.config.layers, model.config.head_dim), (shape.layers, shape.head_dim));
        let weights: usize = model.linears().map(bitnet_inference::model::Linear::weights).sum();
        let attention = 2 * 256 * 256 + 2 * 128 * 256;
        assert_eq!(weights, 2 * (attention + 3 * 512 * 256));
    }

    #[test]
    fn the_large_shape_has_the_weights_of_the_trained_model() {
        let specs = tensors::specs(&Synthetic::BITNET_2B_4T);
        let packed: usize =
            specs.iter().filter(|spec| spec.shape.len() == 2).skip(1).map(tensors::Spec::size_bytes).sum();
        assert_eq!(packed * 4, 2_084_044_800);
    }
}
