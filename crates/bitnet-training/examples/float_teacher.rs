//! Trains a Llama model in full precision on a text: a teacher for `bitnet train --recipe distill`.
//!
//!     cargo run --release -p bitnet-training --example float_teacher -- TEXT DIR [STEPS THREADS LR]
//!
//! The model has the shape and tokenizer of the preset `tiny`, `SiLU` in place of squared `ReLU`, no norms in front of the
//! output and down projections, and ordinary linears. It learns as the recipe `finetune` schedules it, with weight decay.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bitnet_core::tensor::with_threads;
use bitnet_core::{Buffer, DType, Tensor, ThreadPool};
use bitnet_inference::convert::description;
use bitnet_inference::convert::safetensors::{Spec, write_file};
use bitnet_inference::{Checkpoint, ModelConfig};
use bitnet_training::Result;
use bitnet_training::autograd::{Estimator, Segments};
use bitnet_training::data::{Dataset, Loader, PackOptions, Packing};
use bitnet_training::model::Decoder;
use bitnet_training::nn::Module;
use bitnet_training::optim::{AdamW, AdamWOptions, Optimizer, Rates, Recipe, clip_factor, gradient_norm};
use bitnet_training::trainer::{Preset, Start};
use serde_json::{Map, Value, json};

const SEQ_LEN: usize = 256;
const ROWS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [text, folder, numbers @ ..] = &arguments[..] else { panic!("TEXT DIR [STEPS THREADS LR]") };
    let number = |index: usize, default: f64| {
        numbers
            .get(index)
            .and_then(|number| number.parse().ok())
            .filter(|number| *number > 0.0)
            .unwrap_or(default)
    };
    let (steps, threads, lr) = (number(0, 600.0) as u64, number(1, 1.0) as usize, number(2, 1.5e-3) as f32);
    let (text, folder) = (Path::new(text), Path::new(folder));
    let pool = Arc::new(ThreadPool::new(threads)?);
    let files = files()?;
    let config =
        ModelConfig::read(&Checkpoint::from_memory("float_teacher", files.clone(), BTreeMap::new()))?;
    let decoder = Decoder::new(&config, 1)?;
    let start = Start::preset(Preset::Tiny, 1)?;
    let tokens =
        start.token_cache(&folder.join("tokens"), &pool).open(text, &mut |_, _| ControlFlow::Continue(()))?;
    let pack =
        PackOptions { seq_len: SEQ_LEN, context_length: config.context_length, packing: Packing::Stream };
    let loader = Loader::new(Arc::new(Dataset::new(vec![tokens], &pack)?), ROWS, 1);
    with_threads(&pool, || train(&decoder, loader, Recipe::finetune(lr, steps), steps))?;
    write(&decoder, &files, folder)
}

/// Those of the embedded model, whose config becomes that of a Llama model.
fn files() -> Result<BTreeMap<String, Buffer>> {
    let embedded = Checkpoint::embedded()?;
    let mut config: Map<String, Value> = embedded.json("config.json")?.unwrap_or_default();
    config.remove("quantization_config");
    let llama = [
        ("architectures", json!(["LlamaForCausalLM"])),
        ("model_type", json!("llama")),
        ("hidden_act", json!("silu")),
    ];
    config.extend(llama.map(|(name, value)| (name.to_owned(), value)));
    let mut files = description(&embedded)?;
    files.insert("config.json".to_owned(), Value::from(config).to_string().into_bytes().into());
    Ok(files)
}

fn train(decoder: &Decoder, mut loader: Loader, recipe: Recipe, steps: u64) -> Result<()> {
    let parameters = decoder.parameters();
    let mut optimizer = AdamW::new(parameters.clone(), AdamWOptions::default());
    for step in 0..steps {
        let batch = loader.next_batch();
        let segments = Segments::rows(batch.rows, batch.seq_len)?;
        decoder.clear_gradients()?;
        let loss = decoder.loss(&batch.ids, &batch.targets, &segments, Estimator::Plain)?;
        loss.backward()?;
        let gradient_factor = clip_factor(gradient_norm(&parameters)?, 1.0);
        optimizer.step(Rates {
            learning_rate: recipe.learning_rate(step),
            weight_decay: 0.1,
            gradient_factor,
        })?;
        if (step + 1).is_multiple_of(20) || step + 1 == steps {
            println!("step {} loss {:.4}", step + 1, loss.value().to_f32()?[0]);
        }
    }
    Ok(())
}

fn write(decoder: &Decoder, files: &BTreeMap<String, Buffer>, folder: &Path) -> Result<(), Box<dyn Error>> {
    let parameters = decoder.parameters();
    let rounded = parameters.iter().map(|of| Ok(of.variable().value().to_dtype(DType::BF16)?));
    let tensors: Vec<Tensor> = rounded.collect::<Result<_>>()?;
    let spec = |(of, tensor): (&bitnet_training::nn::Parameter, &Tensor)| Spec {
        name: of.name().to_owned(),
        dtype: tensor.dtype(),
        dims: tensor.dims().to_vec(),
    };
    let specs: Vec<Spec> = parameters.iter().zip(&tensors).map(spec).collect();
    write_file(&folder.join("model.safetensors"), &specs, |index| {
        Ok(Cow::Borrowed(&tensors[index].data()[..]))
    })?;
    for (name, bytes) in files {
        fs::write(folder.join(name), &bytes[..])?;
    }
    Ok(())
}
