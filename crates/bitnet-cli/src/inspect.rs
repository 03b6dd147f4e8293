//! `bitnet inspect`.

use bitnet_inference::{LoadOptions, LoadedModel, Summary};

use crate::args::InspectArgs;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, grouped};

/// Prints what a model is and what it costs to run.
pub(crate) fn inspect(args: InspectArgs) -> Result<(), Failure> {
    let summary = interrupt::or_done(move || {
        let options = LoadOptions {
            gguf: args.gguf.options,
            activations: args.activations.mode,
            adapter: args.adapter.path,
            ..LoadOptions::default()
        };
        Ok(LoadedModel::load(args.model.as_deref(), &options)?.summary().clone())
    })?;
    if args.json { output::json(&summary) } else { output::table(&rows(&summary)) }
}

fn rows(s: &Summary) -> Vec<(&'static str, String)> {
    let share = 100.0 * s.ternary_parameters as f64 / s.parameters as f64;
    let bos = s.bos.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let eos = s.eos.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let eos = if eos.is_empty() { "none" } else { &eos };
    let mut rows = vec![
        ("model", s.model.clone()),
        ("format", s.format.clone()),
        ("family", s.family.clone()),
        ("parameters", format!("{}, {share:.1} % of them ternary", grouped(s.parameters))),
        ("ternary", grouped(s.ternary_parameters)),
        ("layers", s.layers.to_string()),
        ("hidden size", s.hidden_size.to_string()),
        ("feed-forward", format!("{}, {}", s.intermediate_size, s.activation)),
        ("heads", format!("{} of size {}, {} for keys and values", s.heads, s.head_dim, s.kv_heads)),
        ("head", if s.tied_head { "the embedding" } else { "its own matrix" }.to_owned()),
        ("context", format!("{} tokens", grouped(s.context_length))),
        ("RoPE", format!("theta {}, scaling {}", s.rope_theta, s.rope_scaling)),
        (
            "weights",
            match s.weights {
                "master" => "masters, ternarised at load",
                "ternary" => "floats that are ternary as they are",
                packed => packed,
            }
            .to_owned(),
        ),
        ("scale sense", s.scale_sense.unwrap_or("none, scales are made at load").to_owned()),
        ("activations", s.activations.to_owned()),
        ("weight bytes", format!("{}, {:.3} per weight", grouped(s.weight_bytes), s.bytes_per_weight)),
        ("bytes per token", format!("{} read for each token decoded", grouped(s.bytes_per_token))),
        ("tokenizer", format!("{}, vocabulary {}", s.tokenizer.unwrap_or("none"), grouped(s.vocab_size))),
        ("special tokens", format!("begin {bos}, end {eos}")),
        ("chat template", if s.chat_template { "yes" } else { "no" }.to_owned()),
    ];
    if let Some(adapter) = &s.adapter {
        let share = 100.0 * adapter.parameters as f64 / (s.parameters + adapter.parameters) as f64;
        let (rank, alpha, parameters) = (adapter.rank, adapter.alpha, grouped(adapter.parameters));
        rows.push(("adapter", format!("{}, rank {rank}, alpha {alpha}", adapter.path)));
        rows.push(("of the adapter", format!("{parameters} parameters, {share:.2} % of all")));
    }
    rows.extend(s.decisions.iter().map(|decision| ("decided", decision.to_string())));
    rows
}
