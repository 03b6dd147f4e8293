//! Students of a full-precision model, and of one of their own kind.

use std::collections::BTreeMap;

use bitnet_core::DType;
use bitnet_inference::{Checkpoint, LoadOptions, LoadedModel, ModelConfig};
use serde_json::{Value, json};

use super::*;
use crate::ByteTokenizer;
use crate::autograd::{Estimator, Segments};
use crate::distillation::{DistillOptions, Distillation};
use crate::metrics::LossParts;
use crate::model::{Decoder, Projection};
use crate::nn::Module;
use crate::trainer::{Preset, RecipeName};

/// A random Llama model in full precision, in three float types; `changes` are of its config.
fn llama(seed: u64, changes: Value) -> Checkpoint {
    let mut config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 259, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 64, "tie_word_embeddings": false, "torch_dtype": "float16",
        "bos_token_id": ByteTokenizer::BEGIN, "eos_token_id": ByteTokenizer::END,
    });
    let Value::Object(changes) = changes else { panic!("no object") };
    config.as_object_mut().unwrap().extend(changes);
    let mut files = ByteTokenizer::files();
    files.insert("config.json".to_owned(), config.to_string().into_bytes().into());
    let with = |tensors| Checkpoint::from_memory("llama", files.clone(), tensors);
    let decoder = Decoder::new(&ModelConfig::read(&with(BTreeMap::new())).unwrap(), seed).unwrap();
    let types = [DType::F32, DType::F16, DType::BF16].into_iter().cycle();
    let tensor = |(parameter, dtype): (Parameter, DType)| {
        // Weights so large that the model has opinions.
        let factor = if parameter.is_decayed() { 10.0 } else { 1.0 };
        let value = parameter.variable().value().mul(factor).unwrap().to_dtype(dtype).unwrap();
        (parameter.name().to_owned(), value)
    };
    with(decoder.parameters().into_iter().zip(types).map(tensor).collect())
}

fn distilled(steps: u64) -> TrainOptions {
    TrainOptions { recipe: RecipeName::Distill, learning_rate: Some(1e-2), ..options(steps) }
}

impl Files {
    /// A run whose student begins as its teacher, a Llama model.
    fn student(&self, run: &str, options: &TrainOptions, threads: usize) -> Result<Trainer> {
        let teacher = llama(3, json!({}));
        let start = Start::student(&teacher)?.with_teacher(&teacher)?;
        self.trainer_of(start, run, options, threads)
    }
}

#[test]
fn a_full_precision_llama_is_a_beginning_with_new_norms() {
    let checkpoint = llama(3, json!({}));
    let refused = Start::model(&checkpoint).unwrap_err().to_string();
    assert!(refused.ends_with("the recipe distill makes it a BitNet one"), "{refused}");
    let teacher = Decoder::from_checkpoint(&checkpoint).unwrap();
    assert!(matches!(teacher.blocks()[0].attention.q, Projection::Float(_)));
    let start = Start::student(&checkpoint).unwrap();
    let block = &start.decoder().blocks()[1];
    assert!(matches!((&block.attention.q, &block.mlp.down), (Projection::Bit(_), Projection::Bit(_))));
    let values = |parameters: &[Parameter]| -> BTreeMap<String, Vec<f32>> {
        let value = |of: &Parameter| (of.name().to_owned(), of.variable().value().to_vec().unwrap());
        parameters.iter().map(value).collect()
    };
    let mut of_student = values(&start.decoder().parameters());
    for layer in 0..2 {
        for (name, width) in [("self_attn.attn_sub_norm", 32), ("mlp.ffn_sub_norm", 64)] {
            let norm = of_student.remove(&format!("model.layers.{layer}.{name}.weight"));
            assert_eq!(norm, Some(vec![1.0; width]));
        }
    }
    assert_eq!(of_student, values(&teacher.parameters()));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    start.write(&path, &ThreadPool::new(1).unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
    for (name, expected) in [
        ("model_type", json!("bitnet")),
        ("architectures", json!(["BitNetForCausalLM"])),
        ("hidden_act", json!("silu")),
        // The defaults of Llama, which are not those of BitNet.
        ("rms_norm_eps", json!(1e-6)),
        ("rope_theta", json!(10000.0)),
        ("torch_dtype", json!("bfloat16")),
    ] {
        assert_eq!(config[name], expected, "{name}");
    }
    let engine = LoadedModel::open(&path, &LoadOptions::default()).unwrap();
    assert!(engine.config().activation == start.decoder().config().activation);
}

#[test]
fn what_cannot_become_one_is_refused() {
    let refusal = |checkpoint: &Checkpoint| Start::student(checkpoint).unwrap_err().to_string();
    let qwen = llama(3, json!({ "model_type": "qwen3", "head_dim": 16 }));
    assert_eq!(refusal(&qwen), "cannot train a full-precision model of the architecture qwen3");
}

#[test]
fn a_student_comes_near_its_teacher_and_runs_in_the_engine() {
    let files = Files::new();
    // The teacher is random: what it says of the text is nothing that the text says.
    let distill = DistillOptions { logit_weight: 30.0, relation_weight: 30.0, ..DistillOptions::default() };
    let mut trainer = files.student("run", &TrainOptions { distill, ..distilled(30) }, 2).unwrap();
    let trained = trained(trainer.run(&mut ()).unwrap());
    let metrics = files.metrics("run");
    let mean = |part: fn(&LossParts) -> Option<f64>, steps: std::ops::Range<usize>| {
        metrics[steps].iter().map(|of| part(&of.parts).unwrap()).sum::<f64>() / 5.0
    };
    for part in [|parts: &LossParts| parts.logit_kl, |parts: &LossParts| parts.relation_kl] {
        let [first, last] = [mean(part, 0..5), mean(part, 25..30)];
        assert!(last < 0.8 * first, "{first} {last}");
    }
    let engine = LoadedModel::open(&trained.model, &LoadOptions::default()).unwrap();
    let text = fs::read_to_string(files.path("eval.txt")).unwrap();
    let found = engine.perplexity(&text, SEQ_LEN, None, |_, _| Ok::<_, bitnet_inference::Error>(())).unwrap();
    assert!((found.nll - trained.eval_loss.unwrap()).abs() < 1e-6, "{} {trained:?}", found.nll);
}

#[test]
fn a_distilled_run_goes_on_bit_for_bit_with_the_same_teacher() {
    let files = Files::new();
    let distill = DistillOptions { ramp: 0.7, ..DistillOptions::default() };
    let options = TrainOptions { distill, ..distilled(6) };
    let mut whole = files.student("whole", &options, 2).unwrap();
    whole.run(&mut ()).unwrap();
    files.student("parts", &options, 1).unwrap().run(&mut StopAt(3)).unwrap();
    let mut second = files.student("parts", &options, 2).unwrap();
    assert_eq!(second.step(), 3);
    second.run(&mut ()).unwrap();
    assert_eq!(bits(&second), bits(&whole));
    let parts = |run| files.metrics(run).iter().map(|of| of.parts).collect::<Vec<_>>();
    assert_eq!(parts("parts"), parts("whole"));
    drop(second);

    let other = Start::student(&llama(3, json!({}))).unwrap().with_teacher(&llama(4, json!({}))).unwrap();
    let error = files.trainer_of(other, "parts", &options, 1).unwrap_err().to_string();
    assert!(error.contains("cannot go on from here: teacher was "), "{error}");
    let distill = DistillOptions { temperature: 4.0, ..options.distill.clone() };
    let error = files.student("parts", &TrainOptions { distill, ..options }, 1).unwrap_err().to_string();
    assert!(error.ends_with("temperature was 2 and is 4"), "{error}");
}

#[test]
fn a_student_that_is_its_teacher_has_nothing_to_learn_from_it() {
    let files = Files::new();
    files.start(5).unwrap().write(&files.path("master"), &ThreadPool::new(1).unwrap()).unwrap();
    let master = Checkpoint::open(&files.path("master")).unwrap();
    let start = Start::student(&master).unwrap().with_teacher(&master).unwrap();
    files.trainer_of(start, "run", &distilled(2), 2).unwrap().run(&mut ()).unwrap();
    let [first, second] = &files.metrics("run")[..] else { panic!("two steps") };
    assert_eq!(first.parts, LossParts { logit_kl: Some(0.0), relation_kl: Some(0.0) });
    assert!(second.parts.logit_kl > Some(0.0) && second.parts.relation_kl > Some(0.0));
}

/// The teacher is deeper, wider and has other heads.
#[test]
fn the_loss_is_the_weighted_sum_of_its_parts() {
    let wide = json!({
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    });
    let of = |checkpoint: &Checkpoint| Decoder::from_checkpoint(checkpoint).unwrap();
    let student = of(&llama(3, json!({})));
    let (tokens, targets) = ([70, 75, 80, 85, 90], [75, 80, 85, 90, 95]);
    let segments = Segments::new([3, 2]).unwrap();
    let losses = |logit_weight, relation_weight| {
        let options = DistillOptions { logit_weight, relation_weight, ..DistillOptions::default() };
        let distillation = Distillation::new(of(&llama(4, wide.clone())), &student, &options).unwrap();
        let losses = distillation.loss(&student, &tokens, &targets, &segments, Estimator::Plain).unwrap();
        (losses.total.value().to_f32().unwrap()[0], losses.cross_entropy, losses.parts)
    };
    let (total, cross_entropy, parts) = losses(3.0, 5.0);
    let LossParts { logit_kl: Some(logits), relation_kl: Some(relations) } = parts else {
        panic!("{parts:?}")
    };
    let expected = cross_entropy + 3.0 * logits + 5.0 * relations;
    assert!((f64::from(total) / expected - 1.0).abs() < 1e-6, "{total} {expected}");
    assert!(logits > 0.1 && relations > 1e-4, "{parts:?}");
    assert_eq!(losses(0.0, 5.0).2, LossParts { logit_kl: None, ..parts });
    assert_eq!(losses(3.0, 0.0).2, LossParts { relation_kl: None, ..parts });
    let plain = student.loss(&tokens, &targets, &segments, Estimator::Plain).unwrap();
    let (total, _, parts) = losses(0.0, 0.0);
    assert_eq!(([total], parts), ([plain.value().to_f32().unwrap()[0]], LossParts::default()));
}

#[test]
fn teachers_that_do_not_fit_are_refused_in_one_line() {
    let files = Files::new();
    let student = || Start::student(&llama(3, json!({}))).unwrap();
    let refusal = |teacher: &Checkpoint, options: &TrainOptions| {
        let trainer = student().with_teacher(teacher).and_then(|of| files.trainer_of(of, "run", options, 1));
        let error = trainer.unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    let options = distilled(2);
    assert_eq!(
        refusal(&llama(3, json!({ "vocab_size": 300 })), &options),
        "the teacher has a vocabulary of 300 tokens, and the student of 259"
    );
    let preset = Start::preset(Preset::Tiny, 1).unwrap();
    preset.write(&files.path("preset"), &ThreadPool::new(1).unwrap()).unwrap();
    let error = refusal(&Checkpoint::open(&files.path("preset")).unwrap(), &options);
    assert!(error.starts_with("the teacher has other tokens: 0 is "), "{error}");
    let layer = |relation_layer| DistillOptions { relation_layer, ..DistillOptions::default() };
    let deep = llama(3, json!({ "num_hidden_layers": 3 }));
    assert_eq!(
        refusal(&deep, &TrainOptions { distill: layer(Some(2)), ..options.clone() }),
        "the teacher has 3 layers, the student 2, counted from 0: layer 2 is not in both"
    );
    let heads = DistillOptions { relation_heads: Some(5), ..DistillOptions::default() };
    let error = refusal(&deep, &TrainOptions { distill: heads, ..options.clone() });
    assert!(error.starts_with("relation-heads must be a divisor of the widths"), "{error}");
    assert_eq!(
        refusal(&deep, &super::options(2)),
        "the teacher is of no use to the recipe b1.58: distill learns from one"
    );
    let short = refusal(&llama(3, json!({ "max_position_embeddings": 16 })), &options);
    assert!(short.contains("sequences of 32 tokens do not fit the context of the model, 16"), "{short}");
    let alone = files.trainer_of(student(), "run", &options, 1).unwrap_err().to_string();
    assert_eq!(alone, "the teacher is missing: the recipe distill learns from one");
}
