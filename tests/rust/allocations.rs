//! The decode loop allocates nothing. Alone in its file: the count is of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bitnet_core::{DType, Tensor};
use bitnet_inference::backend::Cut;
use bitnet_inference::model::adapter::{AdapterConfig, tensor_names, write};
use bitnet_inference::{LoadOptions, LoadedModel, MirostatOptions, Sampler, SamplingOptions};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test: another one would be counted too.
#[test]
fn a_token_allocates_nothing() {
    decoding_a_token_allocates_nothing();
    sampling_a_token_allocates_nothing();
}

fn decoding_a_token_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = Some(adapter(folder.path()));
    for (threads, adapter) in [(1, None), (2, None), (1, adapter.clone()), (2, adapter)] {
        let options = LoadOptions { threads: Some(threads), adapter, ..LoadOptions::default() };
        let model = LoadedModel::embedded(&options).unwrap();
        let mut sequence = model.backend().start(128).unwrap();
        sequence.feed(&[2043, 555, 695], 1).unwrap();
        let mut decode = |tokens: u32| {
            for id in 0..tokens {
                sequence.feed(&[id], 1).unwrap();
                sequence.candidates(&Cut::GREEDY).unwrap();
            }
        };
        // A thread grows its buffers when it first takes part, which on a busy machine is not the first token.
        decode(25);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        decode(100);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{threads} threads");
    }
}

/// A folder with an adapter of every query and down projection of the embedded model.
fn adapter(folder: &Path) -> PathBuf {
    let mut tensors = BTreeMap::new();
    for layer in 0..4 {
        for (part, inputs) in [("self_attn.q_proj", 256), ("mlp.down_proj", 768)] {
            let [a, b] = tensor_names(&format!("model.layers.{layer}.{part}"));
            tensors.insert(a, Tensor::full([2, inputs], 0.01, DType::F32).unwrap());
            tensors.insert(b, Tensor::full([256, 2], 0.01, DType::F32).unwrap());
        }
    }
    let config = AdapterConfig { rank: 2, alpha: 4.0, is_rank_stabilized: false, base_model: String::new() };
    let path = folder.join("adapter");
    write(&path, &config, &tensors).unwrap();
    path
}

/// Options of every kind that are to cost nothing; DRY, constraints and log-probabilities do.
fn sampling() -> [SamplingOptions; 4] {
    let plain = || SamplingOptions { temperature: 1.0, seed: Some(1), ..SamplingOptions::default() };
    [
        SamplingOptions { repetition_penalty: 1.2, presence_penalty: 0.5, ..SamplingOptions::default() },
        SamplingOptions {
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            repeat_last_n: Some(8),
            repetition_penalty: 1.2,
            ..plain()
        },
        SamplingOptions {
            typical_p: 0.9,
            top_n_sigma: 2.0,
            xtc_probability: 0.5,
            dynatemp_range: 0.5,
            ..plain()
        },
        SamplingOptions { mirostat: Some(MirostatOptions::default()), ..plain() },
    ]
}

fn sampling_a_token_allocates_nothing() {
    let model = LoadedModel::embedded(&LoadOptions { threads: Some(1), ..LoadOptions::default() }).unwrap();
    for options in sampling() {
        let mut sampler = Sampler::new(&options, &model).unwrap();
        let mut sequence = model.backend().start(128).unwrap();
        sampler.observe_prompt(&[2043, 555]);
        sequence.feed(&[2043, 555], 1).unwrap();
        let mut sample = |tokens: usize| {
            for _ in 0..tokens {
                let id = sampler.sample(sequence.candidates(&sampler.cut()).unwrap()).unwrap().id;
                sampler.observe(id).unwrap();
                sequence.feed(&[id], 1).unwrap();
            }
        };
        sample(20);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        sample(50);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{options:?}");
    }
}
