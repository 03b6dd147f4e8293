//! `bitnet inspect`.

use bitnet_inference::{Engine, EngineOptions, Summary};

use crate::args::InspectArgs;
use crate::failure::Failure;
use crate::{print_json, print_line};

/// Prints what a model is and what it costs to run.
pub(crate) fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let summary = Engine::load(args.model.as_deref(), &EngineOptions::default())?.summary();
    if args.json {
        return print_json(&summary);
    }
    for (name, value) in rows(&summary) {
        print_line(&format!("{name:<16}{value}"))?;
    }
    Ok(())
}

fn rows(s: &Summary) -> Vec<(&'static str, String)> {
    let ids = s.eos.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let weights = match s.scale_sense {
        Some(sense) => format!("{}, scales {sense}", s.weights),
        None => format!("{}, ternarised at load", s.weights),
    };
    let head = if s.tied_head { "the embedding" } else { "its own" };
    let share = 100.0 * s.ternary_parameters as f64 / s.parameters as f64;
    let optional = |id: Option<u32>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    vec![
        ("model", s.model.clone()),
        ("family", s.family.clone()),
        ("parameters", format!("{}, {} ternary ({share:.1} %)", s.parameters, s.ternary_parameters)),
        ("layers", s.layers.to_string()),
        ("hidden", format!("{}, feed-forward {} ({})", s.hidden_size, s.intermediate_size, s.activation)),
        ("heads", format!("{} of {}, {} for keys and values", s.heads, s.head_dim, s.kv_heads)),
        ("context", format!("{} tokens, rope theta {}, scaling {}", s.context_length, s.rope_theta, s.rope_scaling)),
        ("weights", weights),
        ("head", head.to_owned()),
        ("memory", format!("{} bytes, {:.3} per weight", s.weight_bytes, s.bytes_per_weight)),
        ("per token", format!("{} bytes read", s.bytes_per_token)),
        ("tokenizer", format!("{}, vocabulary {}", s.tokenizer.unwrap_or("none"), s.vocab_size)),
        ("special tokens", format!("bos {}, end of text {}", optional(s.bos), if ids.is_empty() { "none" } else { &ids })),
        ("chat template", if s.chat_template { "yes" } else { "no" }.to_owned()),
    ]
}
