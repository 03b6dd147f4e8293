//! What is written lies between the first and the trained model, and training knows nothing of it.

use bitnet_inference::{Checkpoint, LoadOptions, LoadedModel};

use super::refusals::refused;
use super::*;
use crate::nn::LoraOptions;

fn between(interpolate: f32) -> TrainOptions {
    TrainOptions { interpolate, ..options(4) }
}

/// The embedding that was written.
fn embedding(model: &Path) -> Vec<f32> {
    let checkpoint = Checkpoint::open(model).unwrap();
    let stored = checkpoint.tensor("model.embed_tokens.weight").unwrap().unwrap();
    let bytes = stored.data().chunks_exact(2);
    bytes.map(|bytes| f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)).collect()
}

#[test]
fn the_written_model_lies_between_the_first_and_the_trained_one() {
    let files = Files::new();
    let value = |trainer: &Trainer| trainer.parameters[0].variable().value().to_vec::<f32>().unwrap();
    let first = value(&files.trainer("first", &options(1), 1).unwrap());
    let mut whole = files.trainer("whole", &options(4), 1).unwrap();
    let trained_alone = trained(whole.run(&mut ()).unwrap());
    let mut trainer = files.trainer("run", &between(0.25), 2).unwrap();
    let done = trained(trainer.run(&mut ()).unwrap());
    assert_eq!(bits(&trainer), bits(&whole));

    let last = value(&whole);
    assert_eq!(embedding(&done.model).len(), last.len());
    for ((w, first), last) in embedding(&done.model).into_iter().zip(&first).zip(&last) {
        let expected = first + 0.25 * (last - first);
        assert!((w - expected).abs() <= expected.abs() / 256.0, "{w} {expected}");
    }
    assert_ne!(embedding(&done.model), embedding(&trained_alone.model));

    let text = fs::read_to_string(files.path("eval.txt")).unwrap();
    let engine = LoadedModel::open(&done.model, &LoadOptions::default()).unwrap();
    let found = engine.perplexity(&text, SEQ_LEN, None, |_, _| Ok::<_, bitnet_inference::Error>(())).unwrap();
    assert!((found.nll - done.eval_loss.unwrap()).abs() < 1e-6, "{} {done:?}", found.nll);
    assert_ne!(done.eval_loss, trained_alone.eval_loss);
}

#[test]
fn a_run_that_is_done_writes_another_model_of_the_way() {
    let files = Files::new();
    let whole = trained(files.trainer("whole", &between(0.5), 1).unwrap().run(&mut ()).unwrap());
    files.trainer("run", &options(4), 1).unwrap().run(&mut ()).unwrap();
    let again = trained(files.trainer("run", &between(0.5), 1).unwrap().run(&mut ()).unwrap());
    assert_eq!(embedding(&again.model), embedding(&whole.model));
    assert_eq!(again.eval_loss, whole.eval_loss);
}

#[test]
fn what_lies_elsewhere_is_refused() {
    let files = Files::new();
    for factor in [0.0, -1.0, 1.5, f32::NAN] {
        let error = refused(files.trainer("run", &between(factor), 1));
        assert!(error.contains("interpolate must be above 0 and at most 1"), "{error}");
    }
    files.start(5).unwrap().write(&files.path("master"), &ThreadPool::new(1).unwrap()).unwrap();
    let base = Checkpoint::open(&files.path("master")).unwrap();
    let adapter = Start::adapter(base, &LoraOptions { rank: 2, alpha: None }, 9).unwrap();
    let error = refused(files.trainer_of(adapter, "adapter", &between(0.5), 1));
    assert!(error.contains("interpolate must be 1 while an adapter is trained"), "{error}");
}
