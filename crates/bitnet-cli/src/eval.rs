//! `bitnet eval`.

use std::sync::Arc;
use std::time::Instant;

use bitnet_inference::{LoadedModel, Perplexity};
use serde::Serialize;

use crate::args::EvalArgs;
use crate::failure::Failure;
use crate::output::{self, grouped};
use crate::{interrupt, text};

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    result: Perplexity,
    seconds: f64,
    tokens_per_s: f64,
}

/// Prints the perplexity of a model on a text.
pub(crate) fn eval(args: EvalArgs) -> Result<(), Failure> {
    let text = text::read(args.text)?;
    let model = args.model.load()?;
    let context = model.config().context_length;
    if args.window > context {
        let window = args.window;
        return Err(Failure::Other(format!(
            "--window is {window}; the context of this model holds {context} tokens"
        )));
    }
    let started = Instant::now();
    let result = measure(model, text, args.window, args.max_windows)?;
    let seconds = started.elapsed().as_secs_f64();
    let report = Report { tokens_per_s: result.tokens as f64 / seconds, result, seconds };
    if args.json { output::json(&report) } else { output::table(&rows(&report)) }
}

/// The perplexity, under a progress bar.
fn measure(
    model: Arc<LoadedModel>,
    text: String,
    window: usize,
    max_windows: Option<usize>,
) -> Result<Perplexity, Failure> {
    let bar = output::progress_bar(0, "{bar:40} window {pos}/{len}, {eta} left");
    let handle = bar.clone();
    let result = interrupt::or_done(move || {
        model.perplexity(&text, window, max_windows, |done, all| {
            handle.set_length(all as u64);
            handle.set_position(done as u64);
            interrupt::check()
        })
    });
    bar.finish_and_clear();
    result
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let Perplexity { perplexity, nll, window, windows, tokens, .. } = report.result;
    vec![
        ("perplexity", format!("{perplexity:.4}")),
        ("nll", format!("{nll:.6} nats per token")),
        ("windows", format!("{} of {window} tokens", grouped(windows))),
        ("tokens", grouped(tokens)),
        ("speed", format!("{:.1} tokens/s, {:.1} s", report.tokens_per_s, report.seconds)),
    ]
}
