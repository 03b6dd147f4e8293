//! A model as the kernels read it, with the kernels that it needs.

use bitnet_core::{DType, FloatMatrix, ThreadPool};
use bitnet_metal::Gpu;
use bitnet_metal::Memory;
use bitnet_metal::kernels::{
    Argmax, Attention as AttentionKernels, Compiler, Element, Embedding, FloatProduct, FloatWeights, Gate,
    Norm, Quantize, Rope, TernaryProduct, TernaryWeights,
};
use bitnet_metal::panels::pack_panels;
use bitnet_quant::{BitLinear, Scales, TernaryMatrix};

use crate::activation::Activation;
use crate::backend::KvType;
use crate::config::{ActivationMode, ModelConfig};
use crate::model::{self, Attention, FloatLinear, Linear, Mlp, ModelPart};
use crate::{Error, Result};

/// Alignment of what kernels read in place: that of their widest load.
const ALIGN: usize = 16;

/// A model on a device.
#[derive(Debug)]
pub(super) struct Prepared<G: Gpu> {
    pub(super) config: ModelConfig,
    pub(super) table: FloatWeights<G::Memory>,
    pub(super) embedding: Embedding<G>,
    /// Gathers rows of activations.
    pub(super) gather: Embedding<G>,
    pub(super) layers: Vec<Layer<G>>,
    pub(super) norm: G::Memory,
    pub(super) rms_norm: Norm<G>,
    /// Adds to its output.
    pub(super) add_norm: Norm<G>,
    pub(super) head: Head<G>,
    pub(super) argmax: Argmax<G>,
    /// Of keys and values as f32, and as f16.
    kv_kernels: [KvKernels<G>; 2],
}

/// The kernels that read and write keys and values of one type.
#[derive(Debug)]
pub(super) struct KvKernels<G: Gpu> {
    pub(super) rope: Rope<G>,
    pub(super) attention: AttentionKernels<G>,
}

/// A block. Linears that share an input are one matrix, their rows one below the other.
#[derive(Debug)]
pub(super) struct Layer<G: Gpu> {
    pub(super) attention_norm: G::Memory,
    /// In front of the linears that read the residual stream.
    pub(super) quantize_normed: Quantize<G>,
    pub(super) qkv: TernaryLinear<G>,
    pub(super) q_norm: Option<G::Memory>,
    pub(super) k_norm: Option<G::Memory>,
    pub(super) attention_sub_norm: Option<G::Memory>,
    pub(super) quantize_attended: Quantize<G>,
    pub(super) o: TernaryLinear<G>,
    pub(super) attention_post_norm: Option<G::Memory>,
    pub(super) mlp_norm: G::Memory,
    pub(super) gate_up: TernaryLinear<G>,
    pub(super) mlp_sub_norm: Option<G::Memory>,
    pub(super) quantize_gated: Quantize<G>,
    pub(super) down: TernaryLinear<G>,
    pub(super) mlp_post_norm: Option<G::Memory>,
}

/// A ternary matrix with its kernel.
#[derive(Debug)]
pub(super) struct TernaryLinear<G: Gpu> {
    pub(super) weights: TernaryWeights<G::Memory>,
    pub(super) product: TernaryProduct<G>,
}

/// What makes logits of normalised outputs.
#[derive(Debug)]
pub(super) enum Head<G: Gpu> {
    /// The embedding.
    Tied(FloatProduct<G>),
    Float(FloatWeights<G::Memory>, FloatProduct<G>),
    Ternary(Quantize<G>, TernaryLinear<G>),
}

impl<G: Gpu> Prepared<G> {
    pub(super) fn new(gpu: &G, model: ModelPart, pool: &ThreadPool) -> Result<Self> {
        let ModelPart { config, embedding, blocks, ending, adapter, .. } = model;
        let (Some(embedding), Some(ending)) = (embedding, ending) else {
            return Err(unsupported("run a part of a model"));
        };
        if adapter.is_some() {
            return Err(unsupported("run an adapter"));
        }
        if config.quantization.activations != ActivationMode::Int8 {
            return Err(unsupported("multiply ternary weights with floats"));
        }
        let mut preparer =
            Preparer { gpu, pool, compiler: Compiler::new(gpu), gate: gate(config.activation)? };
        let table = preparer.floats(FloatLinear { weight: embedding, bias: None })?;
        let layers = blocks.into_iter().map(|block| preparer.layer(block)).collect::<Result<Vec<_>>>()?;
        let head = if ending.is_tied {
            Head::Tied(FloatProduct::new(&mut preparer.compiler, table.element, false)?)
        } else {
            preparer.head(ending.head)?
        };
        let compiler = &mut preparer.compiler;
        Ok(Self {
            embedding: Embedding::new(compiler, table.element)?,
            gather: Embedding::new(compiler, Element::F32)?,
            rms_norm: Norm::new(compiler, false)?,
            add_norm: Norm::new(compiler, true)?,
            argmax: Argmax::new(compiler)?,
            kv_kernels: [KvKernels::new(compiler, Element::F32)?, KvKernels::new(compiler, Element::F16)?],
            norm: vector(gpu, &ending.norm)?,
            config,
            table,
            layers,
            head,
        })
    }

    /// The kernels of a type of keys and values that a cache can have.
    pub(super) fn kv_kernels(&self, kv_type: KvType) -> &KvKernels<G> {
        &self.kv_kernels[usize::from(kv_type == KvType::F16)]
    }

    /// Bytes of all weights as they are kept, norms, biases and scales included.
    pub(super) fn weight_bytes(&self) -> usize {
        let head = match &self.head {
            Head::Tied(_) => 0,
            Head::Float(weights, _) => float_bytes(weights),
            Head::Ternary(_, linear) => linear.memory_bytes(),
        };
        let layers: usize = self.layers.iter().map(Layer::memory_bytes).sum();
        float_bytes(&self.table) + layers + self.norm.size_bytes() + head
    }

    /// Bytes that logits of some outputs read.
    pub(super) fn head_bytes(&self) -> usize {
        match &self.head {
            Head::Tied(_) => self.table.elements.size_bytes(),
            Head::Float(weights, _) => weights.elements.size_bytes(),
            Head::Ternary(_, linear) => linear.weight_bytes(),
        }
    }
}

impl<G: Gpu> KvKernels<G> {
    fn new(compiler: &mut Compiler<'_, G>, element: Element) -> Result<Self> {
        Ok(Self { rope: Rope::new(compiler, element)?, attention: AttentionKernels::new(compiler, element)? })
    }
}

impl<G: Gpu> Layer<G> {
    fn memory_bytes(&self) -> usize {
        let norms = [Some(&self.attention_norm), Some(&self.mlp_norm)].into_iter();
        let inner = [
            &self.q_norm,
            &self.k_norm,
            &self.attention_sub_norm,
            &self.attention_post_norm,
            &self.mlp_sub_norm,
            &self.mlp_post_norm,
        ];
        let norms = norms.chain(inner.map(Option::as_ref)).flatten().map(Memory::size_bytes);
        let linears = [&self.qkv, &self.o, &self.gate_up, &self.down].map(TernaryLinear::memory_bytes);
        norms.sum::<usize>() + linears.iter().sum::<usize>()
    }
}

impl<G: Gpu> TernaryLinear<G> {
    /// Bytes of the weights alone, which a step reads.
    pub(super) fn weight_bytes(&self) -> usize {
        self.weights.panels.size_bytes()
    }

    fn memory_bytes(&self) -> usize {
        let TernaryWeights { panels, scales, bias, .. } = &self.weights;
        panels.size_bytes() + scales.size_bytes() + bias.as_ref().map_or(0, Memory::size_bytes)
    }
}

struct Preparer<'a, G: Gpu> {
    gpu: &'a G,
    pool: &'a ThreadPool,
    compiler: Compiler<'a, G>,
    gate: Gate,
}

impl<G: Gpu> Preparer<'_, G> {
    fn layer(&mut self, block: model::Block) -> Result<Layer<G>> {
        let Attention { norm, q, k, v, q_norm, k_norm, sub_norm, o, post_norm } = block.attention;
        let Mlp { norm: mlp_norm, gate, up, sub_norm: mlp_sub_norm, down, post_norm: mlp_post_norm } =
            block.mlp;
        let (gpu, gated) = (self.gpu, self.gate);
        let optional = |norm: Option<Vec<f32>>| norm.map(|norm| vector(gpu, &norm)).transpose();
        Ok(Layer {
            attention_norm: vector(gpu, &norm)?,
            quantize_normed: Quantize::new(&mut self.compiler, true, None)?,
            qkv: self.linear(vec![q, k, v], false)?,
            q_norm: optional(q_norm)?,
            k_norm: optional(k_norm)?,
            quantize_attended: Quantize::new(&mut self.compiler, sub_norm.is_some(), None)?,
            attention_sub_norm: optional(sub_norm)?,
            o: self.linear(vec![o], post_norm.is_none())?,
            attention_post_norm: optional(post_norm)?,
            mlp_norm: vector(gpu, &mlp_norm)?,
            gate_up: self.linear(vec![gate, up], false)?,
            quantize_gated: Quantize::new(&mut self.compiler, mlp_sub_norm.is_some(), Some(gated))?,
            mlp_sub_norm: optional(mlp_sub_norm)?,
            down: self.linear(vec![down], mlp_post_norm.is_none())?,
            mlp_post_norm: optional(mlp_post_norm)?,
        })
    }

    fn head(&mut self, head: Linear) -> Result<Head<G>> {
        Ok(match head {
            Linear::Ternary(_) => {
                let quantize = Quantize::new(&mut self.compiler, false, None)?;
                Head::Ternary(quantize, self.linear(vec![head], false)?)
            }
            Linear::Float(head) => {
                let weights = self.floats(head)?;
                let has_bias = weights.bias.is_some();
                let product = FloatProduct::new(&mut self.compiler, weights.element, has_bias)?;
                Head::Float(weights, product)
            }
        })
    }

    /// Linears of one input as one matrix. With `accumulate` its product is added to the output.
    fn linear(&mut self, linears: Vec<Linear>, accumulate: bool) -> Result<TernaryLinear<G>> {
        let linears = linears.into_iter().map(ternary).collect::<Result<Vec<_>>>()?;
        let matrices: Vec<&TernaryMatrix> = linears.iter().map(BitLinear::weight).collect();
        let panels = bytes(self.gpu, &pack_panels(self.pool, &matrices))?;
        let scales: Vec<f32> = matrices.iter().flat_map(|matrix| row_scales(matrix)).collect();
        let (rows, cols) = (scales.len(), matrices[0].cols());
        let bias = linears.iter().any(|linear| linear.bias().is_some()).then(|| {
            let bias = |linear: &BitLinear| match linear.bias() {
                Some(bias) => bias.to_vec(),
                None => vec![0.0; linear.weight().rows()],
            };
            linears.iter().flat_map(bias).collect::<Vec<f32>>()
        });
        // What was repacked is not needed any more.
        for matrix in &matrices {
            matrix.packed().release();
        }
        let product = TernaryProduct::new(&mut self.compiler, bias.is_some(), accumulate)?;
        let scales = vector(self.gpu, &scales)?;
        let bias = bias.map(|bias| vector(self.gpu, &bias)).transpose()?;
        Ok(TernaryLinear { weights: TernaryWeights { panels, scales, bias, rows, cols }, product })
    }

    fn floats(&self, linear: FloatLinear) -> Result<FloatWeights<G::Memory>> {
        let FloatLinear { weight, bias } = linear;
        let (rows, cols) = (weight.rows(), weight.cols());
        let (element, elements) = stored(&weight);
        let elements = self.gpu.share(&elements, ALIGN)?;
        let bias = bias.map(|bias| vector(self.gpu, &bias)).transpose()?;
        Ok(FloatWeights { elements, element, bias, rows, cols })
    }
}

fn stored(weight: &FloatMatrix) -> (Element, bitnet_core::Buffer) {
    let (dtype, elements) = weight.stored();
    let element = match dtype {
        DType::F16 => Element::F16,
        DType::BF16 => Element::BF16,
        _ => Element::F32,
    };
    (element, elements)
}

fn float_bytes<M: Memory>(weights: &FloatWeights<M>) -> usize {
    weights.elements.size_bytes() + weights.bias.as_ref().map_or(0, Memory::size_bytes)
}

/// A linear that the kernels multiply.
fn ternary(linear: Linear) -> Result<BitLinear> {
    let Linear::Ternary(linear) = linear else {
        return Err(unsupported("multiply blocks of floats"));
    };
    if linear.norm().is_some() {
        return Err(unsupported("normalise the input of a single projection"));
    }
    match linear.weight().scales() {
        Scales::Groups { .. } => {
            Err(unsupported("multiply ternary weights with scales of groups of columns"))
        }
        Scales::Tensor(_) | Scales::Rows(_) => Ok(linear),
    }
}

/// One scale for each row, whatever there is.
fn row_scales(matrix: &TernaryMatrix) -> Vec<f32> {
    match matrix.scales() {
        Scales::Tensor(scale) => vec![*scale; matrix.rows()],
        scales => scales.values().to_vec(),
    }
}

fn gate(activation: Activation) -> Result<Gate> {
    match activation {
        Activation::Relu2 => Ok(Gate::Relu2),
        Activation::Silu => Ok(Gate::Silu),
        Activation::GeluTanh => Ok(Gate::GeluTanh),
        Activation::Gelu => Err(unsupported("compute the activation gelu by erf")),
    }
}

fn vector<G: Gpu>(gpu: &G, values: &[f32]) -> Result<G::Memory> {
    bytes(gpu, bytemuck::cast_slice(values))
}

fn bytes<G: Gpu>(gpu: &G, bytes: &[u8]) -> Result<G::Memory> {
    let mut memory = gpu.allocate(bytes.len())?;
    memory.write(0, bytes);
    Ok(memory)
}

fn unsupported(what: &'static str) -> Error {
    Error::Unsupported { what }
}
