//! A model as the CPU reads it: every matrix in the order of its use.

use bitnet_core::{FloatKernels, FloatMatrix, ThreadPool};
use bitnet_quant::{CompactRows, Order, PackedLinear, Packing};

use crate::Result;
use crate::activation::Activation;
use crate::config::ModelConfig;
use crate::model::{Attention, Block, FloatLinear, Linear, Mlp, Model};

/// A prepared model.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) config: ModelConfig,
    pub(super) embedding: FloatMatrix,
    pub(super) blocks: Vec<Block<PreparedLinear>>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Head,
}

/// A prepared linear.
#[derive(Debug)]
pub(super) enum PreparedLinear {
    Ternary(PackedLinear),
    Float(FloatLinear),
}

/// The head.
#[derive(Debug)]
pub(super) enum Head {
    Ternary(PackedLinear),
    /// With its rows in a few bits, where there is no bias.
    Float(FloatLinear, Option<CompactRows>),
}

impl Prepared {
    /// Repacks the matrices of `model` one after another, giving back the memory of each.
    pub(super) fn new(
        model: Model,
        pool: &ThreadPool,
        floats: &FloatKernels,
        packing: Packing,
    ) -> Result<Self> {
        let Model { config, embedding, blocks, norm, head, .. } = model;
        let preparer = Preparer { pool, packing };
        let blocks = blocks
            .into_iter()
            .map(|block| preparer.block(block, config.activation))
            .collect::<Result<Vec<_>>>()?;
        let head = match head {
            Some(Linear::Ternary(head)) => {
                Head::Ternary(PackedLinear::new(pool, head, Order::Panels, packing)?)
            }
            Some(Linear::Float(head)) => Head::float(pool, floats, head)?,
            None => Head::float(pool, floats, FloatLinear { weight: embedding.clone(), bias: None })?,
        };
        Ok(Self { config, embedding, blocks, norm, head })
    }
}

impl PreparedLinear {
    /// Whether it is ternary and has no norm of its own.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Ternary(linear) if linear.norm().is_none())
    }

    /// Number of inputs.
    pub(super) fn cols(&self) -> usize {
        match self {
            Self::Ternary(linear) => linear.weight().cols(),
            Self::Float(linear) => linear.weight.cols(),
        }
    }

    /// Bytes of the weights.
    pub(super) fn weight_bytes(&self) -> usize {
        match self {
            Self::Ternary(linear) => linear.weight().data().len(),
            Self::Float(linear) => linear.weight.size_bytes(),
        }
    }
}

impl Mlp<PreparedLinear> {
    /// The three matrices, where one token reads only what of them matters.
    pub(super) fn sparse(&self) -> Option<[&PackedLinear; 3]> {
        match (&self.gate, &self.up, &self.down) {
            (PreparedLinear::Ternary(gate), PreparedLinear::Ternary(up), PreparedLinear::Ternary(down))
                if up.weight().order() == Order::Rows =>
            {
                Some([gate, up, down])
            }
            _ => None,
        }
    }
}

impl Head {
    fn float(pool: &ThreadPool, floats: &FloatKernels, linear: FloatLinear) -> Result<Self> {
        let weight = &linear.weight;
        if linear.bias.is_some() {
            return Ok(Self::Float(linear, None));
        }
        let shape = (weight.rows(), weight.cols());
        let read_row = |row: usize, out: &mut [f32]| weight.read_row(row, out);
        let compact = CompactRows::new(pool, floats, shape, read_row, |rows| weight.release_rows(rows))?;
        Ok(Self::Float(linear, compact))
    }
}

struct Preparer<'a> {
    pool: &'a ThreadPool,
    packing: Packing,
}

impl Preparer<'_> {
    fn linear(&self, linear: Linear, order: Order) -> Result<PreparedLinear> {
        Ok(match linear {
            Linear::Ternary(linear) => {
                PreparedLinear::Ternary(PackedLinear::new(self.pool, linear, order, self.packing)?)
            }
            Linear::Float(linear) => PreparedLinear::Float(linear),
        })
    }

    fn block(&self, block: Block, activation: Activation) -> Result<Block<PreparedLinear>> {
        let Block { attention, mlp } = block;
        let dense = |linear| self.linear(linear, Order::Panels);
        let is_ternary = |linear: &Linear| matches!(linear, Linear::Ternary(_));
        // A neuron whose gate is not positive is 0 behind ReLU^2, whatever its other input is.
        let is_sparse =
            activation == Activation::Relu2 && [&mlp.gate, &mlp.up, &mlp.down].into_iter().all(is_ternary);
        let (rows, columns) =
            if is_sparse { (Order::Rows, Order::Columns) } else { (Order::Panels, Order::Panels) };
        Ok(Block {
            attention: Attention {
                norm: attention.norm,
                q: dense(attention.q)?,
                k: dense(attention.k)?,
                v: dense(attention.v)?,
                sub_norm: attention.sub_norm,
                o: dense(attention.o)?,
            },
            mlp: Mlp {
                norm: mlp.norm,
                gate: dense(mlp.gate)?,
                up: self.linear(mlp.up, rows)?,
                sub_norm: mlp.sub_norm,
                down: self.linear(mlp.down, columns)?,
            },
        })
    }
}
