//! The forward pass against hidden states of transformers, and against itself.

use std::path::Path;

use bitnet_core::{DType, Tensor};

use super::*;
use crate::Checkpoint;
use crate::backend::conformance::{Subject, check};
use crate::model::Model;

fn sequence(threads: usize, isa: Isa, capacity: usize) -> Sequence<CpuSession> {
    let pool = Arc::new(ThreadPool::new(threads).unwrap());
    let model = Model::load(&Checkpoint::embedded().unwrap(), &pool).unwrap();
    let options = CpuOptions { isa: Some(isa), ..CpuOptions::default() };
    CpuBackend::new(model, pool, &options).unwrap().sequence(capacity).unwrap()
}

fn golden(name: &str) -> Vec<f32> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden/bitnet-tiny.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap();
    let data = bitnet_core::Buffer::from_owner(view.data().to_vec());
    Tensor::new(DType::F32, view.shape(), data).unwrap().to_f32().unwrap()
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

fn logits(sequence: &mut Sequence<CpuSession>, ids: &[u32]) -> Vec<f32> {
    sequence.feed(ids, ids.len()).unwrap();
    sequence.logits(ids.len()).unwrap().to_vec()
}

const IDS: [u32; 7] = [2043, 555, 695, 473, 902, 289, 433];

#[test]
fn hidden_states_and_logits_equal_the_golden_ones() {
    let mut sequence = sequence(2, Isa::selected().unwrap(), 16);
    let mut layers = 0;
    sequence
        .feed_observed(&IDS, &mut |layer, observed| {
            let Observed::Stream(hidden) = observed else { return };
            layers += 1;
            let difference = mean_difference(hidden, &golden(&format!("hidden.{layer}")));
            assert!(difference < 2e-4, "in front of layer {layer}: {difference}");
        })
        .unwrap();
    assert_eq!(layers, 4);
    let difference = mean_difference(sequence.logits(IDS.len()).unwrap(), &golden("logits.0"));
    assert!(difference < 2e-3, "{difference}");
}

#[test]
fn the_contract_is_kept_for_every_kv_type() {
    let model = Model::load(&Checkpoint::embedded().unwrap(), &ThreadPool::new(1).unwrap()).unwrap();
    let backend = CpuBackend::new(model, Arc::new(ThreadPool::new(2).unwrap()), &CpuOptions::default());
    let report = check(&backend.unwrap(), &Subject::exact(2048));
    report.assert_passed();
    for kv_type in KvType::ALL {
        assert!(report.outcomes.iter().any(|outcome| outcome.kv_type == kv_type));
    }
}

#[test]
#[should_panic(expected = "logits of tokens that were fed for it")]
fn more_logits_than_outputs_are_nobodys() {
    let mut sequence = sequence(1, Isa::Scalar, 16);
    sequence.feed(&IDS, 2).unwrap();
    let _ = sequence.logits(3);
}

#[test]
fn every_isa_and_thread_count_gives_the_same_bits() {
    let expected = logits(&mut sequence(1, Isa::Scalar, 16), &IDS);
    for isa in Isa::available() {
        for threads in 1..4 {
            let got = logits(&mut sequence(threads, isa, 16), &IDS);
            assert_eq!(got, expected, "{isa} {threads}");
        }
    }
}

#[test]
fn beyond_the_capacity_is_an_error_and_changes_nothing() {
    let mut sequence = sequence(1, Isa::Scalar, 8);
    sequence.feed(&IDS, 1).unwrap();
    assert!(matches!(sequence.feed(&[1, 2], 1), Err(Error::ContextLength { .. })));
    assert!(matches!(sequence.feed(&[2048], 1), Err(Error::TokenOutOfRange { id: 2048, .. })));
    assert_eq!(sequence.len(), 7);
    sequence.feed(&[1], 1).unwrap();
}

#[test]
fn a_context_beyond_memory_is_an_error() {
    let pool = Arc::new(ThreadPool::new(1).unwrap());
    let model = Model::load(&Checkpoint::embedded().unwrap(), &pool).unwrap();
    let backend = CpuBackend::new(model, pool, &CpuOptions::default()).unwrap();
    for capacity in [usize::MAX, usize::MAX / 4096, 1 << 50] {
        assert!(matches!(backend.start(capacity), Err(Error::OutOfMemory { .. })), "{capacity}");
    }
}
