//! Tokens per second of a training step: forward pass, backward pass, clipping and `AdamW`.
//!
//!     cargo run --release -p bitnet-training --example training_speed -- [BATCH SEQ_LEN THREADS STEPS]
//!
//! The model has the shape of bitnet-tiny and random weights, the batch random tokens. `flop_per_token` is `6 N` of the
//! N weights that a token is multiplied by, as is usual; the forward products among them are of integers here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bitnet_core::tensor::with_threads;
use bitnet_core::{Buffer, HybridMemoryPool, ThreadPool};
use bitnet_inference::{Checkpoint, ModelConfig};
use bitnet_training::Result;
use bitnet_training::autograd::{Estimator, Segments};
use bitnet_training::model::Decoder;
use bitnet_training::nn::Module;
use bitnet_training::optim::{AdamW, AdamWOptions, Optimizer, Rates, clip_factor, gradient_norm};

const CONFIG: &str = r#"{
    "model_type": "bitnet", "vocab_size": 2048, "hidden_size": 256, "intermediate_size": 768,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "relu2",
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true,
    "quantization_config": {
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"
    }
}"#;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>().unwrap_or(0));
    let mut next = |default| numbers.next().filter(|number| *number > 0).unwrap_or(default);
    let (batch, seq_len, threads, steps) = (next(8), next(256), next(2), next(20));
    let files = BTreeMap::from([("config.json".to_owned(), Buffer::from(CONFIG.as_bytes().to_vec()))]);
    let config = ModelConfig::read(&Checkpoint::from_memory("memory", files, BTreeMap::new()))?;
    let decoder = Decoder::new(&config, 1)?;
    with_threads(&Arc::new(ThreadPool::new(threads)?), || measure(&decoder, batch, seq_len, steps))
}

fn measure(decoder: &Decoder, batch: usize, seq_len: usize, steps: usize) -> Result<()> {
    let parameters = decoder.parameters();
    let mut optimizer = AdamW::new(parameters.clone(), AdamWOptions::default());
    let segments = Segments::rows(batch, seq_len)?;
    let tokens = batch * seq_len;
    let token = |i: usize| (i * 7919 % 104_729 % decoder.config().vocab_size) as u32;
    let (inputs, targets): (Vec<u32>, Vec<u32>) = (0..tokens).map(|i| (token(i), token(i + 1))).unzip();
    let mut best = f64::INFINITY;
    let start = Instant::now();
    for _ in 0..steps {
        let begin = Instant::now();
        decoder.clear_gradients()?;
        decoder.loss(&inputs, &targets, &segments, Estimator::Plain)?.backward()?;
        let gradient_factor = clip_factor(gradient_norm(&parameters)?, 1.0);
        optimizer.step(Rates { learning_rate: 1e-3, weight_decay: 0.1, gradient_factor })?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    let mean = start.elapsed().as_secs_f64() / steps as f64;
    let multiplied = parameters.iter().map(|p| p.variable().value()).filter(|value| value.rank() == 2);
    let flop_per_token = 6.0 * multiplied.map(|value| value.len()).sum::<usize>() as f64;
    let speed = |seconds: f64| tokens as f64 / seconds;
    println!("tokens_per_s {:.0} (best step {:.0})", speed(mean), speed(best));
    println!(
        "flop_per_token {flop_per_token:.3e}, GFLOP/s {:.0} (best step {:.0})",
        speed(mean) * flop_per_token / 1e9,
        speed(best) * flop_per_token / 1e9
    );
    println!("tensor memory, greatest: {} MB", HybridMemoryPool::global().stats().peak_bytes / 1_000_000);
    Ok(())
}
