//! Whole models in training, without files: what inference computes of them, and what threads may not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitnet_core::tensor::with_threads;
use bitnet_core::{Buffer, Tensor, ThreadPool};
use bitnet_inference::{Checkpoint, LoadOptions, LoadedModel, ModelConfig};
use bitnet_training::autograd::{Estimator, Segments};
use bitnet_training::model::Decoder;
use bitnet_training::nn::Module;
use bitnet_training::optim::{AdamW, Optimizer, Rates, State};
use bitnet_training::{Error, Variable};
use serde_json::{Value, json};

const VOCABULARY: u32 = 50;

fn config(model_type: &str, changes: &Value) -> Buffer {
    let mut config = json!({
        "model_type": model_type, "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256, "tie_word_embeddings": true,
        "quantization_config": {
            "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"
        },
    });
    let values = config.as_object_mut().unwrap();
    values.extend(changes.as_object().unwrap().clone());
    Buffer::from(serde_json::to_vec(&config).unwrap())
}

fn checkpoint(config: &Buffer, tensors: BTreeMap<String, Tensor>) -> Checkpoint {
    Checkpoint::from_memory("memory", BTreeMap::from([("config.json".to_owned(), config.clone())]), tensors)
}

fn new_decoder(config: &Buffer) -> Decoder {
    let config = ModelConfig::read(&checkpoint(config, BTreeMap::new())).unwrap();
    Decoder::new(&config, 7).unwrap()
}

fn tensors(decoder: &Decoder) -> BTreeMap<String, Tensor> {
    let named = |parameter: &bitnet_training::nn::Parameter| {
        (parameter.name().to_owned(), parameter.variable().value())
    };
    decoder.parameters().iter().map(named).collect()
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + i * 3 + 1) % VOCABULARY).collect()
}

/// Configs of all that a decoder is made of.
fn configs() -> Vec<Buffer> {
    let exempt = json!({
        "tie_word_embeddings": false,
        "quantization_config": {
            "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online",
            "modules_to_not_convert": ["lm_head"],
        },
    });
    vec![
        config("bitnet", &json!({})),
        config("llama", &json!({ "hidden_act": "silu", "rope_theta": 10000.0 })),
        config("llama", &exempt),
        config("qwen3", &json!({ "head_dim": 16 })),
    ]
}

/// The forward pass of training runs the kernels of inference, and adds in their order.
#[test]
fn the_logits_of_training_are_those_of_inference_bit_for_bit() {
    for config in configs() {
        let decoder = new_decoder(&config);
        let options = LoadOptions { threads: Some(2), ..LoadOptions::default() };
        let engine = LoadedModel::from_checkpoint(&checkpoint(&config, tensors(&decoder)), &options).unwrap();
        let (first, second) = (tokens(150), tokens(7));
        let mut expected = Vec::new();
        for document in [&first, &second] {
            let keep = |_: usize, logits: &[f32]| {
                expected.extend_from_slice(logits);
                Ok::<(), bitnet_inference::Error>(())
            };
            engine.visit_logits(document, 16, keep).unwrap();
        }
        let segments = Segments::new([first.len(), second.len()]).unwrap();
        let pool = Arc::new(ThreadPool::new(3).unwrap());
        let logits = with_threads(&pool, || decoder.logits(&[first, second].concat(), &segments)).unwrap();
        assert_eq!(logits.dims(), [157, VOCABULARY as usize]);
        let got = logits.to_vec::<f32>().unwrap();
        assert!(got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn what_was_written_is_read_back() {
    for config in configs() {
        let decoder = new_decoder(&config);
        let again = Decoder::from_checkpoint(&checkpoint(&config, tensors(&decoder))).unwrap();
        assert_eq!(format!("{:?}", tensors(&again)), format!("{:?}", tensors(&decoder)));
        let segments = Segments::new([20]).unwrap();
        let logits =
            |decoder: &Decoder| decoder.logits(&tokens(20), &segments).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(logits(&again), logits(&decoder));
    }
}

fn step(decoder: &Decoder, optimizer: &mut AdamW, step: u32) -> Variable {
    let tokens = tokens(60 + step);
    let segments = Segments::new([40, 19 + step as usize]).unwrap();
    let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
    decoder.clear_gradients().unwrap();
    let loss = decoder.loss(inputs, targets, &segments, Estimator::Plain).unwrap();
    loss.backward().unwrap();
    optimizer.step(Rates { learning_rate: 0.01, weight_decay: 0.1, gradient_factor: 1.0 }).unwrap();
    loss
}

/// Parameters and losses after some steps.
fn train(threads: usize, steps: u32) -> (Vec<u32>, Vec<f32>) {
    with_threads(&Arc::new(ThreadPool::new(threads).unwrap()), || {
        let decoder = new_decoder(&configs()[0]);
        let mut optimizer = AdamW::new(decoder.parameters(), bitnet_training::optim::AdamWOptions::default());
        let loss = |index| step(&decoder, &mut optimizer, index).value().to_f32().unwrap()[0];
        let losses: Vec<f32> = (0..steps).map(loss).collect();
        (bits(&tensors(&decoder)), losses)
    })
}

fn bits(tensors: &State) -> Vec<u32> {
    tensors.values().flat_map(|tensor| tensor.to_f32().unwrap()).map(f32::to_bits).collect()
}

#[test]
fn threads_change_no_bit_of_a_training_and_the_loss_falls() {
    let (parameters, losses) = train(1, 8);
    assert!((losses[0] - (VOCABULARY as f32).ln()).abs() < 0.2, "{losses:?}");
    assert!(losses[7] < 0.8 * losses[0], "{losses:?}");
    assert_eq!(train(2, 8), (parameters.clone(), losses.clone()));
    assert_eq!(train(5, 8), (parameters, losses));
}

#[test]
fn gradients_of_micro_batches_add_up_to_those_of_the_batch() {
    let decoder = new_decoder(&configs()[0]);
    let all = tokens(61);
    let gradients = |parts: &[(&[u32], &[u32], f32)]| -> Vec<f32> {
        decoder.clear_gradients().unwrap();
        for (inputs, targets, share) in parts {
            let segments = Segments::new([inputs.len()]).unwrap();
            let loss = decoder.loss(inputs, targets, &segments, Estimator::Plain).unwrap();
            loss.scaled(*share).unwrap().backward().unwrap();
        }
        let gradient =
            |p: &bitnet_training::nn::Parameter| p.variable().gradient().unwrap().to_f32().unwrap();
        decoder.parameters().iter().flat_map(gradient).collect()
    };
    let halves = gradients(&[(&all[..20], &all[1..21], 0.25), (&all[20..60], &all[21..], 0.75)]);
    decoder.clear_gradients().unwrap();
    let segments = Segments::new([20, 40]).unwrap();
    // A third of the tokens with a quarter of the weight, and so on: weights that differ from the mean of the batch.
    let loss = |range: std::ops::Range<usize>| {
        let targets: Vec<u32> = (0..60)
            .map(|i| if range.contains(&i) { all[i + 1] } else { bitnet_training::autograd::IGNORED })
            .collect();
        decoder.loss(&all[..60], &targets, &segments, Estimator::Plain).unwrap()
    };
    let sum = loss(0..20).scaled(0.25).unwrap().add(&loss(20..60).scaled(0.75).unwrap()).unwrap();
    sum.backward().unwrap();
    let gradient = |p: &bitnet_training::nn::Parameter| p.variable().gradient().unwrap().to_f32().unwrap();
    let whole: Vec<f32> = decoder.parameters().iter().flat_map(gradient).collect();
    let largest = whole.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    assert!(halves.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-5 * largest));
}

#[test]
fn what_cannot_be_trained_is_refused_with_the_fact() {
    let refusal = |model_type: &str, changes: Value| {
        let config = ModelConfig::read(&checkpoint(&config(model_type, &changes), BTreeMap::new())).unwrap();
        match Decoder::new(&config, 1) {
            Err(error @ Error::Unsupported { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal("llama", json!({ "attention_bias": true })), "cannot train biases of projections");
    assert!(refusal("gemma3_text", json!({})).starts_with("cannot train "));
    let config = config("bitnet", &json!({}));
    let decoder = new_decoder(&config);
    let broken = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = tensors(&decoder);
        change(&mut tensors);
        Decoder::from_checkpoint(&checkpoint(&config, tensors)).unwrap_err()
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    let missing = broken(&|tensors| drop(tensors.remove(name)));
    assert!(matches!(missing, Error::MissingTensor(missing) if missing == name));
    let nan = broken(&|tensors| {
        let values = tensors[name].mul(f32::NAN).unwrap();
        tensors.insert(name.to_owned(), values);
    });
    assert_eq!(nan.to_string(), format!("an element of {name} is not finite"));
    let extra = broken(&|tensors| drop(tensors.insert("extra".to_owned(), tensors[name].clone())));
    assert_eq!(extra.to_string(), "cannot train a model with the tensor extra");
    let segments = Segments::new([257]).unwrap();
    assert!(decoder.logits(&tokens(257), &segments).is_err());
    let beyond = decoder.logits(&[VOCABULARY], &Segments::new([1]).unwrap());
    assert!(matches!(beyond, Err(Error::Token { .. })));
}
