//! The tensors of a synthetic model, by the names a checkpoint has for them.

use bitnet_core::{DType, Tensor};
use half::bf16;

use super::{Synthetic, random};

/// Standard deviation of the logits that the embedding aims at, for inputs of mean square 1.
const LOGIT_STD: f32 = 2.5;

/// A tensor that can be made.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    content: Content,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    /// Packed ternary codes.
    Codes,
    /// The same number everywhere.
    Constant(bf16),
    /// Numbers around 0.
    Normal { std: f32 },
}

impl Spec {
    pub(super) fn dtype(&self) -> DType {
        match self.content {
            Content::Codes => DType::U8,
            Content::Constant(_) | Content::Normal { .. } => DType::BF16,
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().size_bytes()
    }

    /// The content, which depends on nothing but the name and the shape.
    pub(super) fn bytes(&self, threads: usize) -> Vec<u8> {
        let (seed, len) = (random::seed(&self.name), self.size_bytes());
        match self.content {
            Content::Codes => random::codes(seed, len, threads),
            Content::Constant(value) => value.to_le_bytes().repeat(len / 2),
            Content::Normal { std } => random::normal_bf16(seed, len, std, threads),
        }
    }

    pub(super) fn tensor(&self, threads: usize) -> bitnet_core::Result<Tensor> {
        Tensor::new(self.dtype(), self.shape.as_slice(), self.bytes(threads).into())
    }
}

/// All tensors of a model.
pub(super) fn specs(model: &Synthetic) -> Vec<Spec> {
    let (hidden, inner) = (model.hidden_size, model.intermediate_size);
    let std = LOGIT_STD / (hidden as f32).sqrt();
    let embedding = Spec {
        name: "model.embed_tokens.weight".to_owned(),
        shape: vec![model.vocab_size, hidden],
        content: Content::Normal { std },
    };
    let mut specs = vec![embedding, norm("model.norm".to_owned(), hidden)];
    let (q, kv) = (model.heads * model.head_dim, model.kv_heads * model.head_dim);
    for layer in 0..model.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        for (part, width) in [
            ("input_layernorm", hidden),
            ("self_attn.attn_sub_norm", q),
            ("post_attention_layernorm", hidden),
            ("mlp.ffn_sub_norm", inner),
        ] {
            specs.push(norm(name(part), width));
        }
        for (part, rows, cols) in [
            ("self_attn.q_proj", q, hidden),
            ("self_attn.k_proj", kv, hidden),
            ("self_attn.v_proj", kv, hidden),
            ("self_attn.o_proj", hidden, q),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ] {
            specs.extend(linear(&name(part), rows, cols));
        }
    }
    specs
}

fn norm(name: String, width: usize) -> Spec {
    Spec { name: name + ".weight", shape: vec![width], content: Content::Constant(bf16::ONE) }
}

/// Codes and a scale that keeps the mean square: six codes in ten are not zero.
fn linear(name: &str, rows: usize, cols: usize) -> [Spec; 2] {
    let scale = bf16::from_f32(1.0 / (0.6 * cols as f32).sqrt());
    let packed = vec![rows.div_ceil(bitnet_quant::ternary::CODES_PER_BYTE), cols];
    [
        Spec { name: format!("{name}.weight"), shape: packed, content: Content::Codes },
        Spec { name: format!("{name}.weight_scale"), shape: vec![1], content: Content::Constant(scale) },
    ]
}
