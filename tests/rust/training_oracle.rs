//! Gradients of whole models against a plain float64 forward pass.
//!
//! The derivative of rounding is taken to be 1, so the gradient is that of a model in which every rounded value is the
//! value plus a constant: its rounding error. The forward pass here notes these errors once, and adds them from then on;
//! differences of its loss are the gradient, without the noise of activations that fall onto a rounding tie.

use std::collections::BTreeMap;

use bitnet_core::Buffer;
use bitnet_inference::activation::Activation;
use bitnet_inference::config::ActivationMode;
use bitnet_inference::{Checkpoint, ModelConfig};
use bitnet_training::autograd::{Estimator, IGNORED, Segments};
use bitnet_training::model::Decoder;
use bitnet_training::nn::{Module, Parameter};

/// Documents of the batch.
const LENGTHS: [usize; 3] = [9, 1, 6];

/// Rounding errors, in the order of their use.
#[derive(Default)]
struct Roundings {
    errors: Vec<Vec<f64>>,
    /// Which comes next; none while they are noted.
    next: Option<usize>,
}

impl Roundings {
    fn apply(&mut self, x: &mut [f64], rounded: impl FnOnce(&[f64]) -> Vec<f64>) {
        let at = if let Some(next) = &mut self.next {
            *next += 1;
            *next - 1
        } else {
            self.errors.push(rounded(x).iter().zip(&*x).map(|(rounded, x)| rounded - x).collect());
            self.errors.len() - 1
        };
        let errors = &self.errors[at];
        x.iter_mut().zip(errors).for_each(|(x, error)| *x += error);
    }
}

/// Absmax int8 per token.
fn int8(x: &[f64], cols: usize) -> Vec<f64> {
    let token = |x: &[f64]| {
        let scale = 127.0 / x.iter().fold(1e-5_f64, |max, x| max.max(x.abs()));
        x.iter().map(|x| (x * scale).round_ties_even() / scale).collect::<Vec<_>>()
    };
    x.chunks(cols).flat_map(token).collect()
}

/// Absmean ternary.
fn ternary(w: &[f64]) -> Vec<f64> {
    let scale = (w.iter().map(|w| w.abs()).sum::<f64>() / w.len() as f64).max(1e-5);
    w.iter().map(|w| (w / scale).round_ties_even().clamp(-1.0, 1.0) * scale).collect()
}

fn product(x: &[f64], w: &[f64], cols: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum();
    x.chunks(cols).flat_map(|x| w.chunks(cols).map(|w| dot(x, w)).collect::<Vec<f64>>()).collect()
}

struct Oracle<'a> {
    config: &'a ModelConfig,
    parameters: &'a BTreeMap<String, Vec<f64>>,
    roundings: &'a mut Roundings,
}

impl Oracle<'_> {
    fn loss(&mut self, tokens: &[u32], targets: &[u32]) -> f64 {
        let width = self.config.hidden_size;
        let table = &self.parameters["model.embed_tokens.weight"];
        let mut x: Vec<f64> =
            tokens.iter().flat_map(|token| &table[*token as usize * width..][..width]).copied().collect();
        for layer in 0..self.config.layers {
            let prefix = format!("model.layers.{layer}");
            let added = self.attention(&x, &prefix);
            add(&mut x, &added);
            let added = self.mlp(&x, &prefix);
            add(&mut x, &added);
        }
        let x = self.norm(x, "model.norm", width);
        let head = self.parameters.get("lm_head.weight").unwrap_or(table);
        let logits = product(&x, head, width);
        let counted =
            logits.chunks(self.config.vocab_size).zip(targets).filter(|(_, target)| **target != IGNORED);
        let losses: Vec<f64> = counted
            .map(|(z, target)| z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[*target as usize])
            .collect();
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// A norm, if the model has it.
    fn norm(&self, mut x: Vec<f64>, name: &str, width: usize) -> Vec<f64> {
        let Some(weight) = self.parameters.get(&format!("{name}.weight")) else { return x };
        for x in x.chunks_mut(width) {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let factor = 1.0 / (mean + f64::from(self.config.rms_norm_eps)).sqrt();
            x.iter_mut().zip(weight).for_each(|(x, weight)| *x *= weight * factor);
        }
        x
    }

    /// Of an input that was rounded already.
    fn linear(&mut self, x: &[f64], name: &str, cols: usize) -> Vec<f64> {
        let mut w = self.parameters[&format!("{name}.weight")].clone();
        if self.is_quantized() {
            self.roundings.apply(&mut w, ternary);
        }
        product(x, &w, cols)
    }

    fn rounded(&mut self, mut x: Vec<f64>, cols: usize) -> Vec<f64> {
        if self.is_quantized() {
            self.roundings.apply(&mut x, |x| int8(x, cols));
        }
        x
    }

    fn is_quantized(&self) -> bool {
        self.config.quantization.activations == ActivationMode::Int8
    }

    fn attention(&mut self, x: &[f64], prefix: &str) -> Vec<f64> {
        let ModelConfig { hidden_size, heads, kv_heads, head_dim, .. } = *self.config;
        let a = format!("{prefix}.self_attn");
        let n = self.norm(x.to_vec(), &format!("{prefix}.input_layernorm"), hidden_size);
        let n = self.rounded(n, hidden_size);
        let mut projected = |name: &str| {
            let y = self.linear(&n, &format!("{a}.{name}_proj"), hidden_size);
            self.norm(y, &format!("{a}.{name}_norm"), head_dim)
        };
        let [mut q, mut k, v] = ["q", "k", "v"].map(&mut projected);
        self.rotate(&mut q, heads);
        self.rotate(&mut k, kv_heads);
        let attended = self.attend(&q, &k, &v);
        let attended = self.norm(attended, &format!("{a}.attn_sub_norm"), heads * head_dim);
        let attended = self.rounded(attended, heads * head_dim);
        self.linear(&attended, &format!("{a}.o_proj"), heads * head_dim)
    }

    fn rotate(&self, x: &mut [f64], heads: usize) {
        let half = self.config.head_dim / 2;
        let positions = LENGTHS.iter().flat_map(|length| 0..*length);
        for (position, token) in positions.zip(x.chunks_mut(heads * 2 * half)) {
            for head in token.chunks_mut(2 * half) {
                for pair in 0..half {
                    let exponent = -(pair as f64) / half as f64;
                    let angle = position as f64 * self.config.rope_theta.powf(exponent);
                    let (sin, cos) = angle.sin_cos();
                    let (a, b) = (head[pair], head[pair + half]);
                    (head[pair], head[pair + half]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
    }

    fn attend(&self, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        let ModelConfig { heads, kv_heads, head_dim, score_scale, .. } = *self.config;
        let mut out = vec![0.0; q.len()];
        let mut start = 0;
        for length in LENGTHS {
            for (i, head) in (start..start + length).flat_map(|i| (0..heads).map(move |head| (i, head))) {
                let kv = head * kv_heads / heads;
                let row = |x: &[f64], token: usize, of: usize, head: usize| {
                    x[(token * of + head) * head_dim..][..head_dim].to_vec()
                };
                let q = row(q, i, heads, head);
                let weight = |j: usize| {
                    let dot: f64 = q.iter().zip(row(k, j, kv_heads, kv)).map(|(q, k)| q * k).sum();
                    (dot * f64::from(score_scale)).exp()
                };
                let total: f64 = (start..=i).map(weight).sum();
                let out = &mut out[(i * heads + head) * head_dim..][..head_dim];
                for j in start..=i {
                    let share = weight(j) / total;
                    out.iter_mut().zip(row(v, j, kv_heads, kv)).for_each(|(out, v)| *out += share * v);
                }
            }
            start += length;
        }
        out
    }

    fn mlp(&mut self, x: &[f64], prefix: &str) -> Vec<f64> {
        let ModelConfig { hidden_size, intermediate_size, activation, .. } = *self.config;
        let n = self.norm(x.to_vec(), &format!("{prefix}.post_attention_layernorm"), hidden_size);
        let n = self.rounded(n, hidden_size);
        let gate = self.linear(&n, &format!("{prefix}.mlp.gate_proj"), hidden_size);
        let up = self.linear(&n, &format!("{prefix}.mlp.up_proj"), hidden_size);
        let act = |g: f64| match activation {
            Activation::Relu2 => g.max(0.0).powi(2),
            Activation::Silu => g / (1.0 + (-g).exp()),
            other => panic!("no config here has {}", other.name()),
        };
        let gated = gate.iter().zip(&up).map(|(g, up)| act(*g) * up).collect();
        let gated = self.norm(gated, &format!("{prefix}.mlp.ffn_sub_norm"), intermediate_size);
        let gated = self.rounded(gated, intermediate_size);
        self.linear(&gated, &format!("{prefix}.mlp.down_proj"), intermediate_size)
    }
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn wide(values: &bitnet_core::Tensor) -> Vec<f64> {
    values.to_f32().unwrap().into_iter().map(f64::from).collect()
}

/// What makes the linears of a model ternary.
const QUANTIZED: &str =
    r#""quantization_config": { "quant_method": "bitnet", "quantization_mode": "online" }"#;

/// Checks loss and gradients of a model of this config.
fn check(changes: &str) {
    let json = format!(
        r#"{{
            "vocab_size": 23, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 500.0,
            "max_position_embeddings": 64, {changes}
        }}"#
    );
    let files = BTreeMap::from([("config.json".to_owned(), Buffer::from(json.into_bytes()))]);
    let config = ModelConfig::read(&Checkpoint::from_memory("memory", files, BTreeMap::new())).unwrap();
    // A seed by which no activation falls onto a rounding tie, as the comparison of the losses shows.
    let decoder = Decoder::new(&config, 4).unwrap();
    spread(&decoder.parameters());
    let segments = Segments::new(LENGTHS).unwrap();
    let tokens: Vec<u32> = (0..16).map(|i| (i * i + 3 * i) % 23).collect();
    let mut targets: Vec<u32> = (0..16).map(|i| (i * 5 + 2) % 23).collect();
    targets[8] = IGNORED;

    let loss = decoder.loss(&tokens, &targets, &segments, Estimator::Plain).unwrap();
    loss.backward().unwrap();
    let parameters = decoder.parameters();
    let values: BTreeMap<String, Vec<f64>> =
        parameters.iter().map(|p| (p.name().to_owned(), wide(&p.variable().value()))).collect();
    let mut roundings = Roundings::default();
    let exact = |parameters: &BTreeMap<String, Vec<f64>>, roundings: &mut Roundings| {
        Oracle { config: &config, parameters, roundings }.loss(&tokens, &targets)
    };
    let expected = exact(&values, &mut roundings);
    let got = wide(&loss.value())[0];
    assert!((got / expected - 1.0).abs() < 1e-6, "loss: {got}, expected {expected}");
    for parameter in &parameters {
        let gradient = wide(&parameter.variable().gradient().unwrap());
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(norm > 0.0, "{} has no gradient", parameter.name());
        for direction in 0..4 {
            // The error along such a direction is that of the gradient in norm, on average.
            let sign =
                |i: usize| if ((i * 7919 + direction * 104_729) / 13).is_multiple_of(2) { 1.0 } else { -1.0 };
            let mut shifted = |by: f64| {
                let mut values = values.clone();
                let values_here = values.get_mut(parameter.name()).unwrap();
                values_here.iter_mut().enumerate().for_each(|(i, value)| *value += by * sign(i));
                roundings.next = Some(0);
                exact(&values, &mut roundings)
            };
            let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            let got: f64 = gradient.iter().enumerate().map(|(i, g)| g * sign(i)).sum();
            let error = (got - expected).abs() / norm;
            assert!(error < 1e-4, "{}: {got}, expected {expected}, of {norm}", parameter.name());
        }
    }
}

/// Larger weights, and norms that differ from 1, so that nothing cancels.
fn spread(parameters: &[Parameter]) {
    for parameter in parameters {
        let value = parameter.variable().value();
        let changed = if value.rank() == 1 {
            let wave: Vec<f32> = (0..value.len()).map(|i| 1.0 + 0.3 * (i as f32 * 1.3).sin()).collect();
            bitnet_core::Tensor::from_vec(wave, value.dims().to_vec()).unwrap()
        } else {
            value.mul(20.0).unwrap()
        };
        parameter.variable().set_value(changed).unwrap();
    }
}

#[test]
fn bitnet_with_sub_norms_and_squared_relu() {
    check(&format!(r#""model_type": "bitnet", "tie_word_embeddings": true, {QUANTIZED}"#));
}

#[test]
fn llama_with_silu_and_a_head_of_its_own() {
    check(&format!(r#""model_type": "llama", "tie_word_embeddings": false, {QUANTIZED}"#));
}

#[test]
fn llama_in_full_precision() {
    check(r#""model_type": "llama", "tie_word_embeddings": false"#);
}

#[test]
fn qwen3_with_norms_of_heads() {
    check(&format!(r#""model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": true, {QUANTIZED}"#));
}
