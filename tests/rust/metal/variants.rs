//! Models of other shapes than the embedded one, made of it, beside the CPU.

use bitnet_core::{Buffer, DType, FloatMatrix, Tensor};
use bitnet_inference::Model;
use bitnet_inference::activation::Activation;
use bitnet_inference::backend::cpu::{CpuBackend, CpuOptions};
use bitnet_inference::backend::metal::MetalBackend;
use bitnet_inference::backend::{Backend, KvType};
use bitnet_inference::config::LocalAttention;
use bitnet_inference::model::{FloatLinear, Linear};
use bitnet_inference::rope::RopeScaling;
use bitnet_quant::{BitLinear, Scales};

use crate::device::{Gpus, gpus};
use crate::{pool, tiny};

/// Tokens of the pieces that are read.
const PIECES: [usize; 5] = [80, 9, 3, 1, 1];

pub fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

/// The logits of every position.
fn logits(backend: &dyn Backend, vocab_size: usize) -> Vec<Vec<f32>> {
    let tokens: usize = PIECES.iter().sum();
    let ids: Vec<u32> = (0..tokens).map(|i| (i * 7919 % vocab_size) as u32).collect();
    let mut sequence = backend.start(tokens).unwrap();
    let (mut ids, mut all) = (&ids[..], Vec::new());
    for piece in PIECES {
        sequence.feed(&ids[..piece], piece).unwrap();
        all.extend(sequence.logits(piece).unwrap().chunks_exact(vocab_size).map(<[f32]>::to_vec));
        ids = &ids[piece..];
    }
    all
}

/// Compares position by position. Where the last bits of exponentials decide about an int8 code, a position
/// differs by about a hundredth; the typical one does not.
#[track_caller]
fn compare(name: &str, model: &Model) {
    let vocab_size = model.config.vocab_size;
    let cpu = CpuBackend::new(model.clone(), pool(), &CpuOptions::default()).unwrap();
    let expected = logits(&cpu, vocab_size);
    for gpu in gpus(Gpus::One) {
        let metal = MetalBackend::new(gpu, model.clone(), &pool(), KvType::F32).unwrap();
        let got = logits(&metal, vocab_size);
        let spread = |row: &[f32]| {
            let mean = row.iter().sum::<f32>() / row.len() as f32;
            row.iter().map(|logit| (logit - mean).abs()).sum::<f32>() / row.len() as f32
        };
        let rows = got.iter().zip(&expected);
        let mut differences: Vec<f32> = rows.map(|(a, b)| mean_difference(a, b) / spread(b)).collect();
        assert!(differences.iter().all(|difference| difference.is_finite()), "{name}");
        differences.sort_by(f32::total_cmp);
        let (typical, largest) = (differences[differences.len() * 2 / 5], differences[differences.len() - 1]);
        println!("{name}: typical {typical:.1e}, largest {largest:.1e}");
        assert!(typical <= 1e-5 && largest <= 0.1, "{name}: typical {typical:.1e}, largest {largest:.1e}");
    }
}

/// Numbers around 1, none like the next.
fn norm(width: usize, seed: usize) -> Vec<f32> {
    (0..width).map(|i| 1.0 + ((i * 37 + seed * 11) % 64) as f32 / 100.0).collect()
}

#[test]
fn the_embedded_model() {
    compare("bitnet-tiny", &tiny());
}

#[test]
fn norms_of_heads_and_behind_the_halves() {
    let mut model = tiny();
    let (head_dim, width) = (model.config.head_dim, model.config.hidden_size);
    for (layer, block) in model.blocks.iter_mut().enumerate() {
        block.attention.q_norm = Some(norm(head_dim, layer));
        block.attention.k_norm = Some(norm(head_dim, layer + 5));
        block.attention.post_norm = Some(norm(width, layer + 2));
        block.attention.sub_norm = None;
        block.mlp.post_norm = Some(norm(width, layer + 3));
        block.mlp.sub_norm = None;
    }
    compare("norms", &model);
}

#[test]
fn layers_that_see_neighbours_alone() {
    let mut model = tiny();
    model.config.local = Some(LocalAttention {
        listed: Some(vec![true, false, true, true]),
        pattern: 2,
        window: 21,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Linear { factor: 2.0 },
    });
    compare("windows", &model);
}

#[test]
fn every_gate_biases_and_scales_of_rows() {
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let mut model = tiny();
        model.config.activation = activation;
        model.config.embedding_scale = Some(1.5);
        for linear in model.blocks.iter_mut().flat_map(|block| block.linears_mut()) {
            let Linear::Ternary(ternary) = &*linear else { panic!("a ternary model") };
            let (weight, rows) = (ternary.weight().clone(), ternary.weight().rows());
            let scale = weight.one_scale().unwrap();
            let scales = (0..rows).map(|row| scale * (0.9 + (row % 7) as f32 / 35.0)).collect();
            let bias = (0..rows).map(|row| (row % 13) as f32 / 100.0 - 0.06).collect();
            let weight = weight.with_scales(Scales::Rows(scales)).unwrap();
            *linear = Linear::Ternary(BitLinear::new(weight, Some(bias), None).unwrap());
        }
        compare(activation.name(), &model);
    }
}

#[test]
fn heads_of_their_own() {
    let mut model = tiny();
    let (rows, cols) = (model.config.vocab_size, model.config.hidden_size);
    let head: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919 % 2001) as f32 - 1000.0) / 2e4).collect();
    let bytes = Buffer::from_owner(bytemuck::cast_slice::<f32, u8>(&head).to_vec());
    let weight = FloatMatrix::new(&Tensor::new(DType::F32, [rows, cols], bytes).unwrap()).unwrap();
    let bias = Some((0..rows).map(|row| (row % 10) as f32 / 100.0).collect());
    model.head = Some(Linear::Float(FloatLinear { weight, bias }));
    compare("a head of floats", &model);

    let codes: Vec<i8> = (0..rows * cols).map(|i| ((i * 31 + i / 7) % 3) as i8 - 1).collect();
    let weight = bitnet_quant::TernaryMatrix::from_codes(rows, cols, &codes, 0.02).unwrap();
    model.head = Some(Linear::Ternary(BitLinear::new(weight, None, None).unwrap()));
    compare("a ternary head", &model);
}

#[test]
fn one_key_head_for_all_and_one_for_each() {
    // The rows of the projections say how many heads there are: all of the queries, one or all of the keys.
    for kv_heads in [1, 4] {
        let mut model = tiny();
        model.config.kv_heads = kv_heads;
        let rows = kv_heads * model.config.head_dim;
        for block in &mut model.blocks {
            let Linear::Ternary(q) = &block.attention.q else { panic!("a ternary model") };
            let (cols, scale) = (q.weight().cols(), q.weight().one_scale().unwrap());
            let linear = |seed: usize| {
                let codes: Vec<i8> =
                    (0..rows * cols).map(|i| ((i * 13 + i / 5 + seed) % 3) as i8 - 1).collect();
                let weight = bitnet_quant::TernaryMatrix::from_codes(rows, cols, &codes, scale).unwrap();
                Linear::Ternary(BitLinear::new(weight, None, None).unwrap())
            };
            (block.attention.k, block.attention.v) = (linear(1), linear(2));
        }
        compare(&format!("{kv_heads} key heads"), &model);
    }
}
