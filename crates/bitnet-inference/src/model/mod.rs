//! Models: the parts of a decoder-only transformer with ternary linears.

mod activations;
pub mod adapter;
pub(crate) mod exact;
mod linear;
mod linears;
mod load;
mod part;

use bitnet_core::FloatMatrix;
use bitnet_quant::BitLinear;

use self::adapter::Adapter;
pub use linear::{FloatLinear, Linear};
pub use part::{Ending, ModelPart};

use crate::checkpoint::Decision;
use crate::config::{ModelConfig, WeightForm};

/// Hugging Face names of [`Block::linears`], inside a block.
pub(crate) const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Hugging Face name of the embedding's weights.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// Hugging Face name of the head.
pub const HEAD: &str = "lm_head";

/// A model ready to be prepared by a backend.
#[derive(Debug, Clone)]
pub struct Model {
    /// What the checkpoint says of it.
    pub config: ModelConfig,
    /// What the checkpoint stores: packed codes, masters that were ternarised, or floats that are ternary already.
    pub stored: WeightForm,
    /// What the config leaves open of the model, and what was made of it.
    pub decisions: Vec<Decision>,
    /// `[vocab_size, hidden_size]`.
    pub embedding: FloatMatrix,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// Weight of the last RMSNorm.
    pub norm: Vec<f32>,
    /// The head, where it is not the embedding.
    pub head: Option<Linear>,
    /// What is added to the linears, where something is: see [`Model::set_adapter`].
    pub adapter: Option<Adapter>,
}

/// One transformer block:
/// `h = x + post_norm(o(sub_norm(attention(norm(x)))))`, `y = h + post_norm(down(sub_norm(act(gate(n)) * up(n))))` with
/// `n = norm(h)`; most architectures have some of these norms.
///
/// `L` is [`Linear`] as loaded, or what a backend makes of it.
#[derive(Debug, Clone)]
pub struct Block<L = Linear> {
    /// Attention half.
    pub attention: Attention<L>,
    /// Feed-forward half.
    pub mlp: Mlp<L>,
}

/// The attention half of a block.
#[derive(Debug, Clone)]
pub struct Attention<L = Linear> {
    /// RMSNorm in front.
    pub norm: Vec<f32>,
    /// Queries: `heads * head_dim` rows.
    pub q: L,
    /// Keys: `kv_heads * head_dim` rows.
    pub k: L,
    /// Values: `kv_heads * head_dim` rows.
    pub v: L,
    /// RMSNorm of each head of the queries, in front of their rotation.
    pub q_norm: Option<Vec<f32>>,
    /// RMSNorm of each head of the keys, in front of their rotation.
    pub k_norm: Option<Vec<f32>>,
    /// RMSNorm between attention and output projection, where the architecture has it.
    pub sub_norm: Option<Vec<f32>>,
    /// Output projection.
    pub o: L,
    /// RMSNorm behind the output projection, where the architecture has it.
    pub post_norm: Option<Vec<f32>>,
}

/// The feed-forward half of a block.
#[derive(Debug, Clone)]
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
    /// RMSNorm behind the down projection, where the architecture has it.
    pub post_norm: Option<Vec<f32>>,
}

impl Model {
    /// All linears, the head among them where it is one.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears).chain(&self.head)
    }

    /// All linears by their Hugging Face names, as [`Self::linears`] has them.
    pub fn named_linears(&self) -> impl Iterator<Item = (String, &Linear)> {
        let name = |index| LINEARS.map(|part| format!("model.layers.{index}.{part}"));
        let names = (0..self.blocks.len()).flat_map(name).chain([HEAD.to_owned()]);
        names.zip(self.linears())
    }

    /// The ternary ones among [`Self::named_linears`].
    pub fn ternary_linears(&self) -> impl Iterator<Item = (String, &BitLinear)> {
        self.named_linears().filter_map(|(name, linear)| match linear {
            Linear::Ternary(linear) => Some((name, linear)),
            Linear::Float(_) => None,
        })
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

    /// The same, to be changed.
    pub fn linears_mut(&mut self) -> [&mut L; 7] {
        let (a, m) = (&mut self.attention, &mut self.mlp);
        [&mut a.q, &mut a.k, &mut a.v, &mut a.o, &mut m.gate, &mut m.up, &mut m.down]
    }

    /// The norms of the block.
    pub fn norms(&self) -> impl Iterator<Item = &Vec<f32>> {
        let (a, m) = (&self.attention, &self.mlp);
        let inner = [&a.q_norm, &a.k_norm, &a.sub_norm, &a.post_norm, &m.sub_norm, &m.post_norm];
        [&a.norm, &m.norm].into_iter().chain(inner.into_iter().flatten())
    }
}
