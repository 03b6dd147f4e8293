//! A model, or a part of one, as the CPU reads it: every matrix in the order of its use.

use std::ops::Range;

use bitnet_core::{FloatKernels, FloatMatrix, LowRank, ThreadPool};
use bitnet_quant::{CompactRows, InputNorm, Order, PackedLinear, Packing, TernaryKernel};

use super::scaled::ScaledLinear;
use crate::activation::Activation;
use crate::config::{ActivationMode, ModelConfig};
use crate::model::adapter::Adapter;
use crate::model::{self, Attention, Block, FloatLinear, LINEARS, Linear, Mlp, ModelPart};
use crate::{Error, Result};

/// A prepared model, or a part of one.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) config: ModelConfig,
    /// Which layers of the model the blocks are.
    pub(super) layers: Range<usize>,
    /// In the first part.
    pub(super) embedding: Option<FloatMatrix>,
    pub(super) blocks: Vec<Block<PreparedLinear>>,
    /// In the last part.
    pub(super) ending: Option<Ending>,
}

/// What makes logits of the residual stream.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) norm: Vec<f32>,
    pub(super) head: Head,
    /// Whether the head is the embedding.
    is_tied: bool,
}

/// A prepared linear, and what is added to it.
#[derive(Debug)]
pub(super) struct PreparedLinear {
    pub(super) base: Base,
    pub(super) added: Option<LowRank>,
}

/// The weights of a linear.
#[derive(Debug)]
pub(super) enum Base {
    /// Of one scale, and with int8 activations.
    Ternary(PackedLinear),
    Scaled(ScaledLinear),
    Float(FloatLinear),
}

/// The head.
#[derive(Debug)]
pub(super) enum Head {
    Linear(PreparedLinear),
    /// With its rows in a few bits, where there is no bias.
    Float(FloatLinear, Option<CompactRows>),
}

impl Prepared {
    /// Repacks the matrices of a model one after another, giving back the memory of each.
    pub(super) fn new(
        model: ModelPart,
        pool: &ThreadPool,
        floats: &FloatKernels,
        kernel: &TernaryKernel,
        packing: Packing,
    ) -> Result<Self> {
        let ModelPart { config, layers, embedding, blocks, ending, adapter } = model;
        let activations = config.quantization.activations;
        let preparer = Preparer { pool, floats, kernel, packing, activations };
        let blocks = layers
            .clone()
            .zip(blocks)
            .map(|(layer, block)| {
                preparer.block(block, config.activation, &Added::to(adapter.as_ref(), layer))
            })
            .collect::<Result<Vec<_>>>()?;
        let ending = ending.map(|ending| preparer.ending(ending)).transpose()?;
        Ok(Self { config, layers, embedding, blocks, ending })
    }

    /// The embedding, for tokens.
    ///
    /// Errors: [`Error::Unsupported`] in a part that is not the first.
    pub(super) fn embedding(&self) -> Result<&FloatMatrix> {
        self.embedding.as_ref().ok_or(Error::Unsupported { what: "begin with tokens: it has later layers" })
    }

    /// What gives outputs.
    ///
    /// Errors: [`Error::Unsupported`] in a part that is not the last.
    pub(super) fn ending(&self) -> Result<&Ending> {
        self.ending.as_ref().ok_or(Error::Unsupported { what: "give outputs: it has earlier layers" })
    }

    /// Bytes of all weights as they are kept, norms, biases and scales included.
    pub(super) fn weight_bytes(&self) -> usize {
        let linears = self.blocks.iter().flat_map(Block::linears).map(PreparedLinear::memory_bytes);
        let norms = self.blocks.iter().flat_map(Block::norms).map(Vec::len);
        let vectors = size_of::<f32>() * norms.sum::<usize>();
        let embedding = self.embedding.as_ref().map_or(0, FloatMatrix::size_bytes);
        let ending = self.ending.as_ref().map_or(0, |ending| ending.weight_bytes(self.embedding.is_some()));
        embedding + linears.sum::<usize>() + vectors + ending
    }
}

impl Ending {
    /// Bytes of its weights. A head that is the embedding counts where there is no embedding.
    fn weight_bytes(&self, has_embedding: bool) -> usize {
        let head = match &self.head {
            Head::Linear(linear) => linear.memory_bytes(),
            Head::Float(linear, compact) => {
                let own = if self.is_tied && has_embedding { 0 } else { linear.weight.size_bytes() };
                own + linear.bias.as_deref().map_or(0, size_of_val)
                    + compact.as_ref().map_or(0, CompactRows::memory_bytes)
            }
        };
        head + size_of_val(&*self.norm)
    }
}

impl PreparedLinear {
    /// Whether it is ternary, has no norm of its own, and nothing is added to it.
    pub(super) fn is_plain(&self) -> bool {
        self.base.is_plain() && self.added.is_none()
    }

    /// Number of inputs.
    pub(super) fn cols(&self) -> usize {
        match &self.base {
            Base::Ternary(linear) => linear.weight().cols(),
            Base::Scaled(scaled) => scaled.linear.weight().cols(),
            Base::Float(linear) => linear.weight.cols(),
        }
    }

    /// Bytes of the weights alone, which a token reads.
    pub(super) fn weight_bytes(&self) -> usize {
        let added = self.added.as_ref().map_or(0, LowRank::size_bytes);
        added
            + match &self.base {
                Base::Ternary(linear) => linear.weight().data().len(),
                Base::Scaled(scaled) => scaled.linear.weight().packed().len(),
                Base::Float(linear) => linear.weight.size_bytes(),
            }
    }

    /// Bytes of all that is kept: weights, scales, bias and norm.
    fn memory_bytes(&self) -> usize {
        let vectors = |bias: Option<&[f32]>, norm: Option<&InputNorm>| {
            bias.map_or(0, size_of_val) + norm.map_or(0, |norm| size_of_val(&*norm.weight))
        };
        self.weight_bytes()
            + match &self.base {
                Base::Ternary(linear) => vectors(linear.bias(), linear.norm()),
                Base::Scaled(ScaledLinear { linear, .. }) => {
                    size_of_val(linear.weight().scales().values()) + vectors(linear.bias(), linear.norm())
                }
                Base::Float(linear) => vectors(linear.bias.as_deref(), None),
            }
    }
}

impl Base {
    /// Whether it is ternary and has no norm of its own.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Ternary(linear) if linear.norm().is_none())
    }
}

impl Mlp<PreparedLinear> {
    /// The three matrices, where one token reads only what of them matters.
    pub(super) fn sparse(&self) -> Option<[&PackedLinear; 3]> {
        match (&self.gate.base, &self.up.base, &self.down.base) {
            (Base::Ternary(gate), Base::Ternary(up), Base::Ternary(down))
                if up.weight().order() == Order::Rows =>
            {
                Some([gate, up, down])
            }
            _ => None,
        }
    }
}

struct Preparer<'a> {
    pool: &'a ThreadPool,
    floats: &'a FloatKernels,
    kernel: &'a TernaryKernel,
    packing: Packing,
    activations: ActivationMode,
}

impl Preparer<'_> {
    /// Whether the packed kernels take it.
    fn is_packed(&self, linear: &Linear) -> bool {
        let has_one_scale = matches!(linear, Linear::Ternary(linear) if linear.weight().one_scale().is_ok());
        has_one_scale && self.activations == ActivationMode::Int8
    }

    fn linear(&self, linear: Linear, order: Order, added: Option<&LowRank>) -> Result<PreparedLinear> {
        let is_packed = self.is_packed(&linear);
        let base = match linear {
            Linear::Ternary(linear) if !is_packed => {
                Base::Scaled(ScaledLinear { linear, activations: self.activations })
            }
            Linear::Ternary(linear) => {
                Base::Ternary(PackedLinear::new(self.pool, linear, order, self.packing)?)
            }
            Linear::Float(linear) => Base::Float(linear),
        };
        Ok(PreparedLinear { base, added: added.cloned() })
    }

    fn ending(&self, ending: model::Ending) -> Result<Ending> {
        let model::Ending { norm, head, is_tied } = ending;
        let head = match head {
            Linear::Ternary(_) => Head::Linear(self.linear(head, Order::Panels, None)?),
            Linear::Float(head) => self.head(head)?,
        };
        Ok(Ending { norm, head, is_tied })
    }

    fn head(&self, linear: FloatLinear) -> Result<Head> {
        let weight = &linear.weight;
        if linear.bias.is_some() {
            return Ok(Head::Float(linear, None));
        }
        let shape = (weight.rows(), weight.cols());
        let read_row = |row: usize, out: &mut [f32]| weight.read_row(row, out);
        let compact = CompactRows::new(self.pool, self.floats, self.kernel, shape, read_row, |rows| {
            weight.release_rows(rows);
        })?;
        Ok(Head::Float(linear, compact))
    }

    fn block(
        &self,
        block: Block,
        activation: Activation,
        added: &Added<'_>,
    ) -> Result<Block<PreparedLinear>> {
        let Block { attention, mlp } = block;
        let [q, k, v, o, gate, up, down] = added.0;
        let dense = |linear, added| self.linear(linear, Order::Panels, added);
        // A neuron whose gate is not positive is 0 behind ReLU^2, whatever its other input is.
        let linears = [&mlp.gate, &mlp.up, &mlp.down];
        let is_sparse = activation == Activation::Relu2
            && linears.into_iter().all(|linear| self.is_packed(linear))
            && [gate, up, down].iter().all(Option::is_none);
        let (rows, columns) =
            if is_sparse { (Order::Rows, Order::Columns) } else { (Order::Panels, Order::Panels) };
        Ok(Block {
            attention: Attention {
                norm: attention.norm,
                q: dense(attention.q, q)?,
                k: dense(attention.k, k)?,
                v: dense(attention.v, v)?,
                q_norm: attention.q_norm,
                k_norm: attention.k_norm,
                sub_norm: attention.sub_norm,
                o: dense(attention.o, o)?,
                post_norm: attention.post_norm,
            },
            mlp: Mlp {
                norm: mlp.norm,
                gate: dense(mlp.gate, gate)?,
                up: self.linear(mlp.up, rows, up)?,
                sub_norm: mlp.sub_norm,
                down: self.linear(mlp.down, columns, down)?,
                post_norm: mlp.post_norm,
            },
        })
    }
}

/// What is added to each linear of a block.
struct Added<'a>([Option<&'a LowRank>; LINEARS.len()]);

impl<'a> Added<'a> {
    fn to(adapter: Option<&'a Adapter>, layer: usize) -> Self {
        Self(std::array::from_fn(|linear| adapter.and_then(|adapter| adapter.of(layer, linear))))
    }
}
