//! `bitnet eval`.

use std::time::Instant;

use bitnet_inference::{Engine, Perplexity};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::EvalArgs;
use crate::failure::Failure;
use crate::run::read_text;
use crate::{interrupt, print_json, print_line};

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    result: Perplexity,
    seconds: f64,
    tokens_per_s: f64,
}

/// Prints the perplexity of a model on a text.
pub(crate) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let text = read_text(&args.text)?;
    interrupt::watch();
    let engine = Engine::load(args.model.model.as_deref(), &args.model.options())?;
    let started = Instant::now();
    let bar = progress_bar();
    let result = engine.perplexity(&text, args.window, args.max_windows, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        interrupt::check()
    });
    bar.finish_and_clear();
    let result = result?;
    let seconds = started.elapsed().as_secs_f64();
    let report = Report { tokens_per_s: result.tokens as f64 / seconds, result, seconds };
    if args.json {
        return print_json(&report);
    }
    let Perplexity { perplexity, nll, windows, window, tokens, .. } = report.result;
    print_line(&format!("perplexity  {perplexity:.4}"))?;
    print_line(&format!("nll         {nll:.6} nats per token"))?;
    print_line(&format!("text        {tokens} tokens, {windows} windows of {window}"))?;
    print_line(&format!("speed       {:.1} tokens/s", report.tokens_per_s))
}

/// On stderr, and only where that is a terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} window {pos}/{len}, {eta} left");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
