//! The Metal backend on what runs its kernels here: the GPU of a Mac, or the library of `metal/host` on a
//! CPU.
//!
//! On macOS the tests run with all others, and fail without a device where `BITNET_METAL=required` says that
//! there is one. Elsewhere they exist with the feature `metal-harness` alone: `make cross` builds the library
//! and runs them.
#![cfg(any(target_os = "macos", feature = "metal-harness"))]

mod device;
mod faults;
mod golden;
mod variants;

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::backend::conformance::{Subject, check};
use bitnet_inference::backend::cpu::{CpuBackend, CpuOptions};
use bitnet_inference::backend::hybrid::PhasedBackend;
use bitnet_inference::backend::metal::{MetalBackend, self_test};
use bitnet_inference::backend::{Backend, KvType};
use bitnet_inference::{Checkpoint, Error, Model};

use self::device::{Gpus, gpus};

fn pool() -> Arc<ThreadPool> {
    Arc::new(ThreadPool::new(1).unwrap())
}

fn tiny() -> Model {
    Model::load(&Checkpoint::embedded().unwrap(), &pool()).unwrap()
}

#[test]
fn the_contract_is_kept_for_every_kv_type_it_has() {
    for gpu in gpus(Gpus::One) {
        let backend = MetalBackend::new(gpu, tiny(), &pool(), KvType::F16).unwrap();
        let report = check(&backend, &Subject::exact(2048));
        report.assert_passed();
        for kv_type in [KvType::F32, KvType::F16] {
            assert!(report.outcomes.iter().any(|outcome| outcome.kv_type == kv_type));
        }
    }
}

#[test]
fn the_self_test_passes_in_every_order_of_threads() {
    for gpu in gpus(Gpus::Orders) {
        let test = self_test(&gpu, &pool()).unwrap();
        println!("{test:?}");
        assert!(test.is_right(), "{test:?}");
        assert_eq!(test.positions, 2 * 86);
    }
}

#[test]
fn pages_move_between_the_device_and_the_cpu() {
    let cpu: Arc<dyn Backend> = Arc::new(CpuBackend::new(tiny(), pool(), &CpuOptions::default()).unwrap());
    for gpu in gpus(Gpus::One) {
        let metal: Arc<dyn Backend> = Arc::new(MetalBackend::new(gpu, tiny(), &pool(), KvType::F32).unwrap());
        let ids: Vec<u32> = (0..100).map(|i| i * 7919 % 2048).collect();
        let logits = |backend: &dyn Backend| {
            let mut sequence = backend.start(110).unwrap();
            let mut logits = Vec::new();
            for piece in [&ids[..90], &ids[90..91], &ids[91..]] {
                sequence.feed(piece, 1).unwrap();
                logits.extend_from_slice(sequence.logits(1).unwrap());
            }
            logits
        };
        let expected = logits(&*cpu);
        for (prefill, decode) in [(&metal, &cpu), (&cpu, &metal)] {
            let both = PhasedBackend::new(Arc::clone(prefill), Arc::clone(decode));
            let mean = variants::mean_difference(&logits(&both), &expected);
            assert!(mean < 0.1, "{mean}");
        }
    }
}

#[test]
fn what_the_kernels_do_not_compute_is_refused() {
    for gpu in gpus(Gpus::One) {
        let refused = |model: Model, kv_type| {
            MetalBackend::new(Arc::clone(&gpu), model, &pool(), kv_type).map(drop).unwrap_err()
        };
        assert!(matches!(refused(tiny(), KvType::I8), Error::Unsupported { .. }));
        let mut floats = tiny();
        floats.set_activations(bitnet_inference::config::ActivationMode::Float);
        assert!(matches!(refused(floats, KvType::F32), Error::Unsupported { .. }));
        let part = tiny().split(&[2]).remove(0);
        let error = MetalBackend::new(Arc::clone(&gpu), part, &pool(), KvType::F32).map(drop).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }));
    }
}
