//! The tensors of a model under the names of GGUF.
//!
//! Source of the names: `checkpoint/gguf/names.rs`, which reads them.

use std::borrow::Cow;

use bitnet_core::{FloatMatrix, ThreadPool};
use bitnet_quant::TernaryMatrix;

use super::GgufTarget;
use crate::checkpoint::gguf::{GEMMA3, LLAMA, QWEN3, ROPE_FACTORS, RowOrder, TensorType, reorder};
use crate::model::{Attention, Linear, Mlp, Model};
use crate::rope::RopeScaling;
use crate::{Checkpoint, Error, Result};

/// The tensors of a model, in order.
pub(super) struct Tensors<'m> {
    checkpoint: &'m Checkpoint,
    model: &'m Model,
    target: GgufTarget,
    all: Vec<Tensor<'m>>,
}

/// A tensor by its name, and where its numbers come from.
pub(super) struct Tensor<'m> {
    pub(super) name: String,
    pub(super) encoding: TensorType,
    pub(super) dims: Vec<usize>,
    numbers: Numbers<'m>,
    /// Heads whose rows the file has in another order.
    permuted: Option<usize>,
}

enum Numbers<'m> {
    Ternary(&'m TernaryMatrix),
    Matrix(&'m FloatMatrix),
    Vector(Cow<'m, [f32]>),
}

impl<'m> Tensors<'m> {
    /// Those of a file with this target.
    ///
    /// Errors: [`Error::Checkpoint`] for one that GGUF has no place for.
    pub(super) fn of(
        checkpoint: &'m Checkpoint,
        model: &'m Model,
        target: GgufTarget,
    ) -> Result<Vec<Tensor<'m>>> {
        let mut tensors = Self { checkpoint, model, target, all: Vec::new() };
        tensors.collect()?;
        Ok(tensors.all)
    }

    fn collect(&mut self) -> Result<()> {
        let model = self.model;
        self.rope_factors();
        self.matrix("token_embd.weight", &model.embedding);
        for (index, block) in model.blocks.iter().enumerate() {
            self.attention(index, &block.attention)?;
            self.mlp(index, &block.mlp)?;
        }
        self.vector("output_norm.weight".to_owned(), &model.norm);
        match &model.head {
            None => Ok(()),
            Some(Linear::Float(head)) => {
                self.matrix("output.weight", &head.weight);
                Ok(())
            }
            Some(head) => self.linear("output", head, None),
        }
    }

    fn attention(&mut self, layer: usize, attention: &'m Attention) -> Result<()> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let config = &self.model.config;
        let heads = |count: usize| (config.architecture.name == LLAMA).then_some(count);
        self.vector(name("attn_norm.weight"), &attention.norm);
        self.linear(&name("attn_q"), &attention.q, heads(config.heads))?;
        self.linear(&name("attn_k"), &attention.k, heads(config.kv_heads))?;
        self.linear(&name("attn_v"), &attention.v, None)?;
        self.optional(name("attn_q_norm.weight"), attention.q_norm.as_deref());
        self.optional(name("attn_k_norm.weight"), attention.k_norm.as_deref());
        self.optional(name("attn_sub_norm.weight"), attention.sub_norm.as_deref());
        self.linear(&name("attn_output"), &attention.o, None)?;
        self.optional(name("post_attention_norm.weight"), attention.post_norm.as_deref());
        Ok(())
    }

    fn mlp(&mut self, layer: usize, mlp: &'m Mlp) -> Result<()> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        self.vector(name("ffn_norm.weight"), &mlp.norm);
        self.linear(&name("ffn_gate"), &mlp.gate, None)?;
        self.linear(&name("ffn_up"), &mlp.up, None)?;
        self.optional(name("ffn_sub_norm.weight"), mlp.sub_norm.as_deref());
        self.linear(&name("ffn_down"), &mlp.down, None)?;
        self.optional(name("post_ffw_norm.weight"), mlp.post_norm.as_deref());
        Ok(())
    }

    fn matrix(&mut self, name: &str, matrix: &'m FloatMatrix) {
        self.all.push(Tensor {
            name: name.to_owned(),
            encoding: self.target.head.tensor_type(),
            dims: vec![matrix.rows(), matrix.cols()],
            numbers: Numbers::Matrix(matrix),
            permuted: None,
        });
    }

    /// What the config has and GGUF keeps among the tensors.
    fn rope_factors(&mut self) {
        let config = &self.model.config;
        let factors: Cow<'m, [f32]> = match &config.rope_scaling {
            RopeScaling::None | RopeScaling::Linear { .. } => return,
            RopeScaling::Llama3(llama3) => llama3.factors(config.rope_theta, config.head_dim).into(),
            RopeScaling::Factors(factors) => (&**factors).into(),
        };
        self.permuted_vector(ROPE_FACTORS.to_owned(), factors, None);
    }

    fn vector(&mut self, name: String, values: &'m [f32]) {
        self.permuted_vector(name, values.into(), None);
    }

    fn optional(&mut self, name: String, values: Option<&'m [f32]>) {
        if let Some(values) = values {
            self.vector(name, values);
        }
    }

    fn permuted_vector(&mut self, name: String, values: Cow<'m, [f32]>, permuted: Option<usize>) {
        let (encoding, dims) = (TensorType::F32, vec![values.len()]);
        self.all.push(Tensor { name, encoding, dims, numbers: Numbers::Vector(values), permuted });
    }

    fn linear(&mut self, name: &str, linear: &'m Linear, permuted: Option<usize>) -> Result<()> {
        let refuse = |fact: &str| {
            Err(Error::checkpoint(
                self.checkpoint.path(),
                format!("{name}: {fact}, which GGUF has no place for"),
            ))
        };
        let Linear::Ternary(linear) = linear else { return refuse("is not ternary") };
        if let Some(norm) = linear.norm() {
            // Only these families have names for them, and a file one number that is added to mean squares.
            let config = &self.model.config;
            if ![QWEN3, GEMMA3].contains(&config.architecture.name) || norm.eps != config.rms_norm_eps {
                return refuse("has a norm of its own");
            }
            self.vector(format!("{name}_norm_in.weight"), &norm.weight);
        }
        let weight = linear.weight();
        self.all.push(Tensor {
            name: format!("{name}.weight"),
            encoding: self.target.weights.tensor_type(),
            dims: vec![weight.rows(), weight.cols()],
            numbers: Numbers::Ternary(weight),
            permuted,
        });
        if let Some(bias) = linear.bias() {
            self.permuted_vector(format!("{name}.bias"), bias.into(), permuted);
        }
        Ok(())
    }
}

impl Tensor<'_> {
    /// The bytes, in the order of the file.
    ///
    /// Errors: [`Error::Checkpoint`] for a number beyond the type.
    pub(super) fn bytes(
        &self,
        checkpoint: &Checkpoint,
        target: GgufTarget,
        pool: &ThreadPool,
    ) -> Result<Vec<u8>> {
        let error = |fact: String| Error::checkpoint(checkpoint.path(), format!("{}: {fact}", self.name));
        let bytes = match &self.numbers {
            Numbers::Vector(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Numbers::Matrix(matrix) => target
                .head
                .encode(matrix, pool)
                .ok_or_else(|| error(format!("has a weight beyond {}", target.head.name())))?,
            Numbers::Ternary(matrix) => {
                target.weights.codec().encode(pool, matrix).map_err(|fact| error(fact.to_string()))?
            }
        };
        Ok(match self.permuted {
            Some(heads) => {
                let head_dim = self.dims[0] / heads;
                reorder(&bytes, self.encoding, heads, head_dim, RowOrder::LlamaCpp)
            }
            None => bytes,
        })
    }

    /// The scales of a ternary matrix.
    pub(super) fn scales(&self) -> &[f32] {
        match &self.numbers {
            Numbers::Ternary(matrix) => matrix.scales().values(),
            Numbers::Matrix(_) | Numbers::Vector(_) => &[],
        }
    }
}
