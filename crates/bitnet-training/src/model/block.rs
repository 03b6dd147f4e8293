//! A transformer block: attention, then a gated feed-forward network.

use std::sync::Arc;

use bitnet_inference::activation::Activation;
use bitnet_inference::rope::RopeTable;

use super::{Projection, ProjectionInput};
use crate::autograd::{Estimator, Segments, attention, gate, rope};
use crate::nn::{Module, Parameter, RmsNorm};
use crate::{Result, Variable};

/// `h = x + post_norm(o(sub_norm(attention(norm(x)))))`, `y = h + post_norm(down(sub_norm(act(gate(n)) * up(n))))`,
/// `n = norm(h)`; most architectures have some of these norms.
#[derive(Debug, Clone)]
pub struct Block {
    /// Attention half.
    pub attention: Attention,
    /// Feed-forward half.
    pub mlp: Mlp,
}

/// The attention half of a block.
#[derive(Debug, Clone)]
pub struct Attention {
    /// In front.
    pub norm: RmsNorm,
    /// Queries: `heads * head_dim` outputs.
    pub q: Projection,
    /// Keys: `kv_heads * head_dim` outputs.
    pub k: Projection,
    /// Values: `kv_heads * head_dim` outputs.
    pub v: Projection,
    /// Of each head of the queries.
    pub q_norm: Option<RmsNorm>,
    /// Of each head of the keys.
    pub k_norm: Option<RmsNorm>,
    /// In front of the output projection.
    pub sub_norm: Option<RmsNorm>,
    /// Output projection.
    pub o: Projection,
    /// Behind the output projection.
    pub post_norm: Option<RmsNorm>,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor of the products of queries and keys.
    pub scale: f32,
}

/// The feed-forward half of a block.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// In front.
    pub norm: RmsNorm,
    /// The gate.
    pub gate: Projection,
    /// The gated branch.
    pub up: Projection,
    /// In front of the down projection.
    pub sub_norm: Option<RmsNorm>,
    /// Down projection.
    pub down: Projection,
    /// Behind the down projection.
    pub post_norm: Option<RmsNorm>,
    /// Nonlinearity of the gate.
    pub activation: Activation,
}

/// What all blocks of a forward pass share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) segments: &'a Segments,
    pub(super) rope: &'a Arc<RopeTable>,
    pub(super) estimator: Estimator,
}

/// Queries, keys and values of a block as its attention takes them, `[tokens, heads, head_dim]`.
pub type Heads = [Variable; 3];

impl Block {
    /// What goes into the next block, and the heads of this one.
    pub(super) fn forward(&self, x: &Variable, pass: Pass<'_>) -> Result<(Variable, Heads)> {
        let heads = self.attention.heads(x, pass)?;
        let h = x.add(&self.attention.forward(&heads, pass)?)?;
        Ok((h.add(&self.mlp.forward(&h, pass)?)?, heads))
    }
}

impl Attention {
    fn heads(&self, x: &Variable, pass: Pass<'_>) -> Result<Heads> {
        let Pass { segments, rope: table, estimator } = pass;
        let input = ProjectionInput::new(self.norm.forward(x)?);
        let heads = |y: Variable| {
            let [tokens, width] = [y.dims()[0], y.dims()[1]];
            y.reshape([tokens, width / self.head_dim, self.head_dim])
        };
        let turned = |linear: &Projection, norm: &Option<RmsNorm>| {
            rope(&normed(norm.as_ref(), heads(linear.forward(&input, estimator)?)?)?, table, segments)
        };
        let (q, k) = (turned(&self.q, &self.q_norm)?, turned(&self.k, &self.k_norm)?);
        let v = heads(self.v.forward(&input, estimator)?)?;
        Ok([q, k, v])
    }

    fn forward(&self, [q, k, v]: &Heads, pass: Pass<'_>) -> Result<Variable> {
        let Pass { segments, estimator, .. } = pass;
        let attended = attention(q, k, v, segments, self.scale)?;
        let [tokens, width] = [segments.tokens(), q.dims()[1] * self.head_dim];
        let attended = normed(self.sub_norm.as_ref(), attended.reshape([tokens, width])?)?;
        normed(self.post_norm.as_ref(), self.o.forward(&ProjectionInput::new(attended), estimator)?)
    }
}

impl Mlp {
    fn forward(&self, x: &Variable, Pass { estimator, .. }: Pass<'_>) -> Result<Variable> {
        let input = ProjectionInput::new(self.norm.forward(x)?);
        let (g, up) = (self.gate.forward(&input, estimator)?, self.up.forward(&input, estimator)?);
        drop(input);
        let gated = normed(self.sub_norm.as_ref(), gate(self.activation, &g, &up)?)?;
        normed(self.post_norm.as_ref(), self.down.forward(&ProjectionInput::new(gated), estimator)?)
    }
}

fn normed(norm: Option<&RmsNorm>, x: Variable) -> Result<Variable> {
    match norm {
        Some(norm) => norm.forward(&x),
        None => Ok(x),
    }
}

impl Module for Block {
    fn parameters(&self) -> Vec<Parameter> {
        let (a, m) = (&self.attention, &self.mlp);
        let parts: [&dyn Module; 15] = [
            &a.norm,
            &a.q,
            &a.k,
            &a.v,
            &a.q_norm,
            &a.k_norm,
            &a.sub_norm,
            &a.o,
            &a.post_norm,
            &m.norm,
            &m.gate,
            &m.up,
            &m.sub_norm,
            &m.down,
            &m.post_norm,
        ];
        parts.into_iter().flat_map(Module::parameters).collect()
    }
}
