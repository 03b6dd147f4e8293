//! Models: the parts of a decoder-only transformer with ternary linears.

mod linear;
mod load;

use bitnet_core::FloatMatrix;
pub use linear::{FloatLinear, Linear};

use crate::config::{ModelConfig, WeightForm};

/// A model ready to be prepared by a backend.
#[derive(Debug)]
pub struct Model {
    /// What the checkpoint says of it.
    pub config: ModelConfig,
    /// What the checkpoint stores: packed codes, or masters that were ternarised.
    pub stored: WeightForm,
    /// `[vocab_size, hidden_size]`.
    pub embedding: FloatMatrix,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// Weight of the last RMSNorm.
    pub norm: Vec<f32>,
    /// The head, where it is not the embedding.
    pub head: Option<Linear>,
}

/// One transformer block:
/// `h = x + o(sub_norm(attention(norm(x))))`, `y = h + down(sub_norm(act(gate(n)) * up(n)))` with `n = norm(h)`.
///
/// `L` is [`Linear`] as loaded, or what a backend makes of it.
#[derive(Debug)]
pub struct Block<L = Linear> {
    /// Attention half.
    pub attention: Attention<L>,
    /// Feed-forward half.
    pub mlp: Mlp<L>,
}

/// The attention half of a block.
#[derive(Debug)]
pub struct Attention<L = Linear> {
    /// RMSNorm in front.
    pub norm: Vec<f32>,
    /// Queries: `heads * head_dim` rows.
    pub q: L,
    /// Keys: `kv_heads * head_dim` rows.
    pub k: L,
    /// Values: `kv_heads * head_dim` rows.
    pub v: L,
    /// RMSNorm between attention and output projection, where the architecture has it.
    pub sub_norm: Option<Vec<f32>>,
    /// Output projection.
    pub o: L,
}

/// The feed-forward half of a block.
#[derive(Debug)]
pub struct Mlp<L = Linear> {
    /// RMSNorm in front.
    pub norm: Vec<f32>,
    /// The gate.
    pub gate: L,
    /// The gated branch.
    pub up: L,
    /// RMSNorm in front of the down projection, where the architecture has it.
    pub sub_norm: Option<Vec<f32>>,
    /// Down projection.
    pub down: L,
}

impl Model {
    /// All linears, the head among them where it is one.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears).chain(&self.head)
    }

    /// Number of ternary weights.
    pub fn ternary_parameters(&self) -> usize {
        let ternary = |linear: &&Linear| matches!(linear, Linear::Ternary(_));
        self.linears().filter(ternary).map(Linear::weights).sum()
    }

    /// Weights of norms and biases.
    pub fn vector_elements(&self) -> usize {
        let norms = self.blocks.iter().flat_map(Block::norms).chain([&self.norm]);
        norms.map(Vec::len).sum::<usize>() + self.linears().map(Linear::vector_elements).sum::<usize>()
    }
}

impl<L> Block<L> {
    /// All linears of the block.
    pub fn linears(&self) -> [&L; 7] {
        let (a, m) = (&self.attention, &self.mlp);
        [&a.q, &a.k, &a.v, &a.o, &m.gate, &m.up, &m.down]
    }

    fn norms(&self) -> impl Iterator<Item = &Vec<f32>> {
        let (a, m) = (&self.attention, &self.mlp);
        [&a.norm, &m.norm].into_iter().chain(&a.sub_norm).chain(&m.sub_norm)
    }
}
