//! Any checkpoint as a GGUF file, its codes and scales untouched.
//!
//! The keys are those that llama.cpp's and bitnet.cpp's converters write; see `config/gguf.rs`, which reads them.

use std::borrow::Cow;
use std::path::Path;

use bitnet_core::{FloatMatrix, ThreadPool};
use bitnet_quant::{Codec, TernaryMatrix};
use half::f16;

use super::head::HeadType;
use super::losses::Losses;
use super::{ConvertOptions, Converted, Progress};
use crate::activation::Activation;
use crate::chat::ChatTemplate;
use crate::checkpoint::gguf::{ROPE_FACTORS, RowOrder, TensorType, Writer, reorder};
use crate::config::ModelConfig;
use crate::model::{Linear, Model};
use crate::rope::RopeScaling;
use crate::tokenizer::Tokenizer;
use crate::{Checkpoint, Error, Result};

/// How the ternary matrices of a GGUF file are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufWeights {
    /// `I2_S`, 2 bits: bitnet.cpp.
    I2S,
    /// `TQ2_0`, 2.06 bits: llama.cpp.
    Tq2_0,
    /// `TQ1_0`, 1.69 bits: llama.cpp.
    Tq1_0,
}

impl GgufWeights {
    /// Every encoding that is written.
    pub const ALL: [Self; 3] = [Self::I2S, Self::Tq2_0, Self::Tq1_0];

    /// Name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::I2S => "gguf-i2_s",
            Self::Tq2_0 => "gguf-tq2_0",
            Self::Tq1_0 => "gguf-tq1_0",
        }
    }

    fn tensor_type(self) -> TensorType {
        match self {
            Self::I2S => TensorType::I2_S,
            Self::Tq2_0 => TensorType::TQ2_0,
            Self::Tq1_0 => TensorType::TQ1_0,
        }
    }

    fn codec(self) -> Codec {
        match self {
            Self::I2S => Codec::I2S,
            Self::Tq2_0 => Codec::Tq2_0,
            Self::Tq1_0 => Codec::Tq1_0,
        }
    }

    /// `general.file_type`.
    fn file_type(self) -> usize {
        match self {
            Self::I2S => 40,
            Self::Tq1_0 => 36,
            Self::Tq2_0 => 37,
        }
    }
}

/// What to write.
#[derive(Debug, Clone, Copy)]
struct GgufTarget {
    weights: GgufWeights,
    head: HeadType,
}

/// Writes a model as a GGUF file, with tokenizer and chat template. Codes are kept, and every block has the scale of its
/// matrix, so that nothing is quantized twice. The file appears when it is whole.
///
/// Errors: [`Error::Checkpoint`] for what the format cannot hold, such as a linear that is not ternary or a norm in front
/// of one; [`Error::Lossy`]; [`Error::Tokenizer`]; [`Error::Io`].
pub(super) fn write(
    checkpoint: &Checkpoint,
    model: &Model,
    path: &Path,
    weights: GgufWeights,
    options: &ConvertOptions,
    pool: &ThreadPool,
    mut progress: Progress<'_>,
) -> Result<Converted> {
    let mut losses = Losses::default();
    let head = options.head.unwrap_or_else(|| head_type(model, pool, &mut losses));
    let target = GgufTarget { weights, head };
    let mut tensors = Tensors { checkpoint, model, target, all: Vec::new() };
    tensors.collect()?;
    let tensors = tensors.all;
    for tensor in &tensors {
        let is_rounded = |scale: &f32| f16::from_f32(*scale).to_f32() != *scale;
        if weights != GgufWeights::I2S && tensor.scales().iter().any(is_rounded) {
            losses.add(&tensor.name, "has a scale that float16 rounds");
        }
    }
    let lost = losses.accept(checkpoint.path(), options.lossy)?;
    let mut writer = Writer::default();
    write_keys(&mut writer, checkpoint, &model.config, target)?;
    write_vocabulary(&mut writer, checkpoint, &model.config)?;
    for tensor in &tensors {
        writer.tensor(&tensor.name, tensor.encoding, &tensor.dims)?;
    }
    progress.all = writer.tensor_bytes();
    writer.write(path, |index| {
        let bytes = tensors[index].bytes(checkpoint, target, pool)?;
        progress.add(bytes.len())?;
        Ok(bytes)
    })?;
    Ok(Converted {
        to: options.to,
        embedding: head.name(),
        tensors: tensors.len(),
        ternary: model.ternary_linears().count(),
        files: 1,
        tensor_bytes: progress.done,
        lost,
    })
}

/// The first type that holds every weight of embedding and head.
fn head_type(model: &Model, pool: &ThreadPool, losses: &mut Losses) -> HeadType {
    let types = [HeadType::F16, HeadType::BF16];
    types.into_iter().find(|head_type| head_type.holds(model, pool)).unwrap_or_else(|| {
        losses.add("token_embd.weight", "has weights that float16 rounds");
        HeadType::F16
    })
}

fn write_keys(
    writer: &mut Writer,
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    target: GgufTarget,
) -> Result<()> {
    let architecture = match (config.architecture.name, config.activation) {
        ("bitnet", Activation::Relu2) => "bitnet-b1.58",
        ("bitnet", Activation::Silu) => "bitnet",
        ("llama", Activation::Silu) => "llama",
        (name, activation) => {
            let reason = format!("is a {name} model with {}, which has no name in GGUF", activation.name());
            return Err(Error::checkpoint(checkpoint.path(), reason));
        }
    };
    let name = checkpoint.path().file_stem().unwrap_or_default().to_string_lossy();
    writer.text("general.architecture", architecture);
    writer.text("general.name", &name);
    writer.count("general.file_type", target.weights.file_type())?;
    writer.count("general.quantization_version", 2)?;
    for (key, value) in [
        ("vocab_size", config.vocab_size),
        ("context_length", config.context_length),
        ("embedding_length", config.hidden_size),
        ("block_count", config.layers),
        ("feed_forward_length", config.intermediate_size),
        ("rope.dimension_count", config.head_dim),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
    ] {
        writer.count(&format!("{architecture}.{key}"), value)?;
    }
    writer.number(&format!("{architecture}.attention.layer_norm_rms_epsilon"), config.rms_norm_eps);
    writer.number(&format!("{architecture}.rope.freq_base"), config.rope_theta as f32);
    // The others are a tensor.
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        writer.text(&format!("{architecture}.rope.scaling.type"), "linear");
        writer.number(&format!("{architecture}.rope.scaling.factor"), factor as f32);
    }
    Ok(())
}

fn write_vocabulary(writer: &mut Writer, checkpoint: &Checkpoint, config: &ModelConfig) -> Result<()> {
    if let Some(gguf) = checkpoint.gguf() {
        gguf.contents().metadata().raw("tokenizer.").for_each(|(key, value)| writer.raw(key, value));
        return Ok(());
    }
    match Tokenizer::read(checkpoint)? {
        Some(tokenizer) => tokenizer.write(writer, config)?,
        None => writer.text("tokenizer.ggml.model", "none"),
    }
    if let Some(source) = ChatTemplate::read(checkpoint)?.source() {
        writer.text("tokenizer.chat_template", source);
    }
    Ok(())
}

/// The tensors of a file, in order.
struct Tensors<'m> {
    checkpoint: &'m Checkpoint,
    model: &'m Model,
    target: GgufTarget,
    all: Vec<Tensor<'m>>,
}

/// A tensor by its name, and where its numbers come from.
struct Tensor<'m> {
    name: String,
    encoding: TensorType,
    dims: Vec<usize>,
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
    fn collect(&mut self) -> Result<()> {
        let model = self.model;
        self.rope_factors();
        self.matrix("token_embd.weight", &model.embedding);
        for (index, block) in model.blocks.iter().enumerate() {
            let name = |part: &str| format!("blk.{index}.{part}");
            let (attention, mlp) = (&block.attention, &block.mlp);
            let is_llama = model.config.architecture.name == "llama";
            let heads = |count: usize| is_llama.then_some(count);
            self.vector(name("attn_norm.weight"), &attention.norm);
            self.linear(&name("attn_q"), &attention.q, heads(model.config.heads))?;
            self.linear(&name("attn_k"), &attention.k, heads(model.config.kv_heads))?;
            self.linear(&name("attn_v"), &attention.v, None)?;
            attention.sub_norm.iter().for_each(|norm| self.vector(name("attn_sub_norm.weight"), norm));
            self.linear(&name("attn_output"), &attention.o, None)?;
            self.vector(name("ffn_norm.weight"), &mlp.norm);
            self.linear(&name("ffn_gate"), &mlp.gate, None)?;
            self.linear(&name("ffn_up"), &mlp.up, None)?;
            mlp.sub_norm.iter().for_each(|norm| self.vector(name("ffn_sub_norm.weight"), norm));
            self.linear(&name("ffn_down"), &mlp.down, None)?;
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
        if linear.norm().is_some() {
            return refuse("has a norm of its own");
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
    fn bytes(&self, checkpoint: &Checkpoint, target: GgufTarget, pool: &ThreadPool) -> Result<Vec<u8>> {
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
    fn scales(&self) -> &[f32] {
        match &self.numbers {
            Numbers::Ternary(matrix) => matrix.scales().values(),
            Numbers::Matrix(_) | Numbers::Vector(_) => &[],
        }
    }
}
