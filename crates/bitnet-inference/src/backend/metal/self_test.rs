//! Whether the kernels compute what the CPU does, on the device at hand.
//!
//! The embedded model reads a text, in the way of prompts and in the way of single tokens, on both. Up to the
//! last bits of exponentials the results are the same; an activation so close to a rounding tie that these
//! decide moves its position, and later ones, by about a hundredth of the spread of logits. A kernel that is
//! wrong moves them by all of it.

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_metal::Gpu;

use super::MetalBackend;
use crate::backend::cpu::{CpuBackend, CpuOptions};
use crate::backend::{Backend, KvType};
use crate::model::Model;
use crate::{Checkpoint, Result};

/// Tokens of the pieces that are read: a prompt, a few tokens, and single ones.
const PIECES: [usize; 6] = [70, 9, 4, 1, 1, 1];

/// How far logits may be apart on average over a position, as the tests with transformers have it.
const LARGEST: f32 = 0.1;

/// What a device computed beside the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelfTest {
    /// Positions whose logits were compared.
    pub positions: usize,
    /// Those with the same most probable token.
    pub agreeing: usize,
    /// Mean difference of the logits of the position where it is largest.
    pub largest_difference: f32,
}

impl SelfTest {
    /// Whether the device is to be trusted.
    pub fn is_right(&self) -> bool {
        self.agreeing * 20 >= self.positions * 19 && self.largest_difference <= LARGEST
    }
}

/// Runs the embedded model on a device and on the CPU, with keys and values of both types.
pub(super) fn self_test<G: Gpu>(gpu: &Arc<G>, pool: &Arc<ThreadPool>) -> Result<SelfTest> {
    let model = Model::load(&Checkpoint::embedded()?, pool)?;
    let vocab_size = model.config.vocab_size;
    let mut test = SelfTest { positions: 0, agreeing: 0, largest_difference: 0.0 };
    let tokens: usize = PIECES.iter().sum();
    let ids: Vec<u32> = (0..tokens).map(|i| (i * 7919 % vocab_size) as u32).collect();
    let cpu = CpuBackend::new(model.clone(), Arc::clone(pool), &CpuOptions::default())?;
    for kv_type in [KvType::F32, KvType::F16] {
        let device = MetalBackend::new(Arc::clone(gpu), model.clone(), pool, kv_type)?;
        let mut sequences = [device.start(tokens)?, cpu.start(tokens)?];
        let mut ids = &ids[..];
        for piece in PIECES {
            let (now, later) = ids.split_at(piece);
            ids = later;
            let [device, cpu] = &mut sequences;
            device.feed(now, piece)?;
            cpu.feed(now, piece)?;
            let rows = device.logits(piece)?.chunks_exact(vocab_size);
            rows.zip(cpu.logits(piece)?.chunks_exact(vocab_size)).for_each(|(a, b)| test.compare(a, b));
        }
    }
    Ok(test)
}

impl SelfTest {
    fn compare(&mut self, device: &[f32], cpu: &[f32]) {
        let sum: f32 = device.iter().zip(cpu).map(|(a, b)| (a - b).abs()).sum();
        let mean = sum / cpu.len() as f32;
        self.positions += 1;
        self.agreeing += usize::from(largest(device) == largest(cpu));
        // What is no number is infinitely wrong.
        self.largest_difference =
            self.largest_difference.max(if mean.is_finite() { mean } else { f32::INFINITY });
    }
}

fn largest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
}
