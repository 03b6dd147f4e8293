//! Models in parts, for several backends.

use std::ops::Range;

use bitnet_core::FloatMatrix;

use super::adapter::Adapter;
use super::{Block, FloatLinear, Linear, Model};
use crate::config::ModelConfig;

/// Neighbouring layers of a model, with what stands at its ends where they are the first or the last ones.
///
/// Parts hand on the residual stream, `[tokens, hidden_size]`.
#[derive(Debug, Clone)]
pub struct ModelPart {
    /// That of the model, for the layers of the part.
    pub config: ModelConfig,
    /// Which layers of the model it has.
    pub layers: Range<usize>,
    /// `[vocab_size, hidden_size]`, in the first part.
    pub embedding: Option<FloatMatrix>,
    /// The blocks of the layers.
    pub blocks: Vec<Block>,
    /// What follows the last layer, in the last part.
    pub ending: Option<Ending>,
    /// What is added to the linears of the model, where something is.
    pub adapter: Option<Adapter>,
}

/// What makes logits of the residual stream.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Weight of the last RMSNorm.
    pub norm: Vec<f32>,
    /// The head.
    pub head: Linear,
    /// Whether the head is the embedding.
    pub is_tied: bool,
}

impl Model {
    /// Cuts the model in front of the layers `cuts`, which are in order and neither the first one nor beyond the last.
    pub fn split(self, cuts: &[usize]) -> Vec<ModelPart> {
        let ends: Vec<usize> = cuts.iter().copied().chain([self.config.layers]).collect();
        assert!(cuts.first() != Some(&0) && ends.is_sorted_by(|a, b| a < b), "cuts between layers: {cuts:?}");
        let ModelPart { config, embedding, blocks, ending, adapter, .. } = self.into();
        let (mut embedding, mut ending, mut blocks) = (embedding, ending, blocks.into_iter());
        let mut first = 0;
        let part = |end: usize| {
            let layers = std::mem::replace(&mut first, end)..end;
            ModelPart {
                config: config.part(layers.clone()),
                embedding: embedding.take(),
                blocks: blocks.by_ref().take(layers.len()).collect(),
                ending: if end == config.layers { ending.take() } else { None },
                layers,
                adapter: adapter.clone(),
            }
        };
        ends.into_iter().map(part).collect()
    }
}

impl ModelPart {
    /// Number of ternary weights.
    pub fn ternary_parameters(&self) -> usize {
        let head = self.ending.as_ref().map(|ending| &ending.head);
        let linears = self.blocks.iter().flat_map(Block::linears).chain(head);
        linears.filter(|linear| matches!(linear, Linear::Ternary(_))).map(Linear::weights).sum()
    }
}

impl From<Model> for ModelPart {
    /// All of a model.
    fn from(model: Model) -> Self {
        let Model { config, embedding, blocks, norm, head, adapter, .. } = model;
        let is_tied = head.is_none();
        let tied = || Linear::Float(FloatLinear { weight: embedding.clone(), bias: None });
        let ending = Ending { norm, head: head.unwrap_or_else(tied), is_tied };
        Self {
            layers: 0..config.layers,
            config,
            embedding: Some(embedding),
            blocks,
            ending: Some(ending),
            adapter,
        }
    }
}
