//! Two CPUs with other instruction sets and threads, as one backend.

mod faults;
mod planning;

use std::sync::{Arc, LazyLock};

use bitnet_core::{Isa, ThreadPool};
use proptest::prelude::*;

use super::*;
use crate::backend::conformance::{Subject, check};
use crate::backend::cpu::{CpuBackend, CpuOptions};
use crate::backend::{Backend, KvType};
use crate::engine::{EngineOptions, InferenceEngine, Request};
use crate::generate::{GenerateOptions, Prompt};
use crate::model::{Model, ModelPart};
use crate::{Checkpoint, LoadOptions, LoadedModel};

static MODEL: LazyLock<Arc<LoadedModel>> =
    LazyLock::new(|| LoadedModel::embedded(&LoadOptions::default()).unwrap());

/// Two threads with the best instruction set, or one with the next best.
fn cpu(is_best: bool) -> (Arc<ThreadPool>, CpuOptions) {
    let next = Isa::available().into_iter().rev().nth(1).unwrap_or(Isa::Scalar);
    let (threads, isa) = if is_best { (2, Isa::selected().unwrap()) } else { (1, next) };
    (Arc::new(ThreadPool::new(threads).unwrap()), CpuOptions { isa: Some(isa), ..CpuOptions::default() })
}

fn model() -> Model {
    Model::load(&Checkpoint::embedded().unwrap(), &cpu(false).0).unwrap()
}

fn on_cpu(part: impl Into<ModelPart>, is_best: bool) -> Arc<dyn Backend> {
    let (pool, options) = cpu(is_best);
    Arc::new(CpuBackend::new(part, pool, &options).unwrap())
}

/// The model cut in front of these layers, on one CPU and the other in turn.
fn split(cuts: &[usize]) -> HybridBackend {
    split_model(model(), cuts)
}

fn split_model(model: Model, cuts: &[usize]) -> HybridBackend {
    let parts = model.split(cuts).into_iter().enumerate();
    let parts = parts.map(|(index, part)| Part {
        layers: part.layers.clone(),
        backend: on_cpu(part, index.is_multiple_of(2)),
    });
    HybridBackend::new(parts.collect()).unwrap()
}

fn phased() -> PhasedBackend {
    PhasedBackend::new(on_cpu(model(), true), on_cpu(model(), false))
}

/// What an engine on `backend` gives for some prompts.
fn generate(backend: Arc<dyn Backend>) -> Vec<Vec<u32>> {
    let options = EngineOptions { kv_bytes: 64 << 20, ..EngineOptions::default() };
    let engine = InferenceEngine::with_backends(Arc::clone(&MODEL), vec![backend], options).unwrap();
    let options = GenerateOptions { max_tokens: 12, ..GenerateOptions::default() };
    let prompts: Vec<Vec<u32>> =
        [3, 40, 90].map(|len| (0..len).map(|i| (i * 7919 + len) % 2048).collect()).to_vec();
    let prompts: Vec<Prompt<'_>> = prompts.iter().map(|ids| Prompt::Ids(ids)).collect();
    let texts = engine.generate(&prompts, &Request { options, ..Request::default() });
    texts.into_iter().map(|text| text.unwrap().token_ids).collect()
}

#[test]
fn every_split_gives_the_bits_of_one_backend() {
    let ids: Vec<u32> = (0..70).map(|i| i * 7919 % 2048).collect();
    let logits = |backend: &dyn Backend| {
        let mut sequence = backend.start(80).unwrap();
        let mut all = Vec::new();
        for ids in ids.chunks(69) {
            sequence.feed(ids, 3).unwrap();
            all.extend_from_slice(sequence.logits(ids.len().min(3)).unwrap());
        }
        all
    };
    let expected = logits(MODEL.backend());
    for cuts in [&[1][..], &[2], &[3], &[1, 2], &[1, 3], &[2, 3], &[1, 2, 3]] {
        let hybrid = split(cuts);
        assert!(logits(&hybrid) == expected, "{cuts:?}");
        assert!(hybrid.weight_bytes() >= MODEL.backend().weight_bytes());
        assert_eq!(hybrid.page_bytes(KvType::I8), MODEL.backend().page_bytes(KvType::I8));
    }
}

#[test]
fn hybrids_keep_the_contract() {
    let subject = Subject { reference: Some(MODEL.backend()), ..Subject::exact(2048) };
    check(&split(&[1, 3]), &subject).assert_passed();
    check(&PhasedBackend::new(Arc::new(split(&[3])), on_cpu(model(), false)), &subject).assert_passed();
}

#[test]
fn an_engine_gives_the_same_tokens_on_all_of_them() {
    let expected = generate(MODEL.shared_backend());
    assert_eq!(generate(Arc::new(split(&[1, 3]))), expected);
    assert_eq!(generate(Arc::new(phased())), expected);
}

#[test]
fn layers_are_timed_by_their_numbers_in_the_model() {
    let options = EngineOptions { kv_bytes: 1 << 20, kv_type: KvType::F32, ..EngineOptions::default() };
    let backends = vec![Arc::new(split(&[1, 3])) as Arc<dyn Backend>];
    let engine = InferenceEngine::with_backends(Arc::clone(&MODEL), backends, options).unwrap();
    let generate = || engine.submit(Prompt::Ids(&[5, 6, 7]), &Request::default()).unwrap().wait().unwrap();
    let halves =
        || engine.stats().layers.into_iter().flat_map(|layer| [layer.attention_s, layer.feed_forward_s]);
    generate();
    assert!(halves().all(|seconds| seconds == 0.0));
    engine.monitor().layer_times().set_on(true);
    generate();
    assert_eq!(halves().filter(|seconds| *seconds > 0.0).count(), 8);
}

#[test]
fn a_stream_gives_the_same_tokens_and_the_description_says_where() {
    let hybrid = split(&[3]);
    let description = hybrid.description();
    assert!(description.starts_with("layers 0-2 on cpu ("), "{description}");
    assert!(description.contains("), 3 on cpu ("), "{description}");
    let prepare = |model, _| Ok(Arc::new(split_model(model, &[3])) as Arc<dyn Backend>);
    let checkpoint = Checkpoint::embedded().unwrap();
    let model = LoadedModel::from_checkpoint_on(&checkpoint, &LoadOptions::default(), prepare).unwrap();
    let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
    let expected = MODEL.generate("It is time", &options).unwrap();
    assert_eq!(model.generate("It is time", &options).unwrap().token_ids, expected.token_ids);
}
