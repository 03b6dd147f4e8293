//! Training that begins with packed weights begins with the packed model.

use bitnet_core::tensor::with_threads;
use bitnet_inference::checkpoint::Stored;
use bitnet_inference::convert::{ConvertOptions, GgufWeights, HfForm, Target, convert};
use bitnet_inference::{Checkpoint, LoadOptions, LoadedModel};

use super::refusals::refused;
use super::*;
use crate::autograd::Segments;
use crate::trainer::evaluation;

/// The embedded model in another form.
fn embedded(files: &Files, to: Target) -> Checkpoint {
    let path = files.path(if matches!(to, Target::Gguf(_)) { "packed.gguf" } else { "packed" });
    let pool = ThreadPool::new(1).unwrap();
    let source = Checkpoint::embedded().unwrap();
    convert(&source, &path, &ConvertOptions::new(to), &pool, &mut |_, _| ControlFlow::Continue(())).unwrap();
    Checkpoint::open(&path).unwrap()
}

#[test]
fn the_first_evaluation_is_the_perplexity_of_the_packed_model() {
    for to in [
        Target::Hf(HfForm::Multiply),
        Target::Hf(HfForm::Divide),
        Target::Gguf(GgufWeights::I2S),
        Target::Gguf(GgufWeights::Tq1_0),
    ] {
        let files = Files::new();
        let checkpoint = embedded(&files, to);
        let engine = LoadedModel::from_checkpoint(&checkpoint, &LoadOptions::default()).unwrap();
        let start = Start::model(&checkpoint).unwrap();
        let trainer = files.trainer_of(start, "run", &options(1), 2).unwrap();

        let ids: Vec<u32> = (0..50).map(|i| (i * i * 7 + 3) % 2048).collect();
        let mut expected = Vec::new();
        let keep = |_: usize, logits: &[f32]| {
            expected.extend(logits.iter().map(|x| x.to_bits()));
            Ok::<_, bitnet_inference::Error>(())
        };
        engine.visit_logits(&ids, 16, keep).unwrap();
        let logits = trainer.decoder().logits(&ids, &Segments::new([ids.len()]).unwrap()).unwrap();
        let logits = logits.to_vec::<f32>().unwrap();
        assert!(logits.iter().map(|x| x.to_bits()).eq(expected), "{to:?}");

        let eval = trainer.eval.as_ref().unwrap();
        let loss = with_threads(&trainer.pool, || {
            evaluation::loss(trainer.decoder(), &trainer.parameters, eval, 4).unwrap()
        });
        let text = fs::read_to_string(files.path("eval.txt")).unwrap();
        let found =
            engine.perplexity(&text, SEQ_LEN, None, |_, _| Ok::<_, bitnet_inference::Error>(())).unwrap();
        assert_eq!(found.windows, eval.len());
        assert!((found.nll - loss).abs() < 1e-6, "{to:?}: {} {loss}", found.nll);
    }
}

#[test]
fn what_is_trained_from_packed_weights_is_a_model_with_its_tokenizer() {
    let files = Files::new();
    let start = Start::model(&embedded(&files, Target::Gguf(GgufWeights::I2S))).unwrap();
    let trained = trained(files.trainer_of(start, "run", &options(1), 2).unwrap().run(&mut ()).unwrap());
    assert_eq!(trained.trained_parameters, trained.parameters);
    let engine = LoadedModel::open(&trained.model, &LoadOptions::default()).unwrap();
    assert_eq!(engine.summary().weights, "master");
    let text = fs::read_to_string(files.path("eval.txt")).unwrap();
    let found = engine.perplexity(&text, SEQ_LEN, None, |_, _| Ok::<_, bitnet_inference::Error>(())).unwrap();
    assert!((found.nll - trained.eval_loss.unwrap()).abs() < 1e-6);
}

#[test]
fn weights_that_no_master_gives_are_refused() {
    let files = Files::new();
    let packed = embedded(&files, Target::Hf(HfForm::Multiply));
    let mut tensors: std::collections::BTreeMap<String, Tensor> = packed
        .tensor_names()
        .map(|name| match packed.tensor(name).unwrap().unwrap() {
            Stored::Plain(tensor) => (name.to_owned(), tensor),
            encoded @ Stored::Encoded(_) => panic!("{name} is {}", encoded.type_name()),
        })
        .collect();
    // Codes of 0 alone: the mean of no master is their scale.
    let name = "model.layers.0.self_attn.q_proj.weight".to_owned();
    let zeros = Tensor::full(tensors[&name].dims().to_vec(), 0b0101_0101, bitnet_core::DType::U8).unwrap();
    tensors.insert(name, zeros);
    let files = bitnet_inference::convert::description(&packed).unwrap();
    let error = refused(Start::model(&Checkpoint::from_memory("zeros", files, tensors)));
    assert!(error.starts_with("cannot train zeros: model.layers.0.self_attn.q_proj.weight: "), "{error}");
}
