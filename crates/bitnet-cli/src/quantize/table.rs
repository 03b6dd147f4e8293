//! The report in lines of text.

use std::fmt::Write;

use bitnet_inference::report::{EndToEnd, Report};

use crate::output::grouped;

/// The name of a linear without what all names share.
pub(super) fn short_name(name: &str) -> String {
    name.strip_prefix("model.").unwrap_or(name).to_owned()
}

/// Signal to noise in dB; none where there is no noise.
pub(super) fn decibels(db: f64) -> String {
    if db == f64::INFINITY { "exact".to_owned() } else { format!("{db:.2}") }
}

/// A line for each linear, the most sensitive first.
pub(super) fn ranked(report: &Report) -> String {
    let mut rows = vec![header(report)];
    rows.extend(report.layers.iter().enumerate().map(|(index, layer)| {
        let mut cells =
            vec![(index + 1).to_string(), short_name(&layer.name), format!("{}x{}", layer.rows, layer.cols)];
        cells.extend(layer.quantized.map(|error| decibels(error.sqnr_db)));
        cells.extend(layer.errors.iter().map(|(_, error)| decibels(error.sqnr_db)));
        let first = layer.quantized.or(layer.errors.first().map(|(_, error)| *error));
        let input = report.inputs.get(layer.input);
        cells.extend([
            first.map(|error| format!("{:.4}", error.cosine)).unwrap_or_default(),
            first.map(|error| format!("{:.2e}", error.mse)).unwrap_or_default(),
            input.map(|input| decibels(input.int8.sqnr_db)).unwrap_or_default(),
            layer.recommended.to_string(),
        ]);
        cells
    }));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|cells| cells[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for cells in rows {
        let mut line = String::new();
        for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let is_name = index == 1 || index + 1 == widths.len();
            let _ = if is_name { write!(line, "{cell:width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text + "\n"
}

fn header(report: &Report) -> Vec<String> {
    let mut cells = ["#", "linear", "shape"].map(str::to_owned).to_vec();
    if let Some(first) = report.layers.first() {
        cells.extend(first.quantized.map(|_| "model dB".to_owned()));
        cells.extend(first.errors.iter().map(|(precision, _)| format!("{precision} dB")));
    }
    cells.extend(["cosine", "mse", "input int8 dB", "recommended"].map(str::to_owned));
    cells
}

/// What the whole model is after that.
pub(super) fn summary(report: &Report) -> Vec<(&'static str, String)> {
    let EndToEnd { reference_perplexity, quantized_perplexity, kl_mean, kl_max, top1_agreement } =
        report.end_to_end;
    let mut rows = vec![
        ("model", report.model.clone()),
        ("reference", format!("the floats of {}", report.reference)),
        ("quantized", report.quantized.clone()),
        (
            "tokens",
            format!("{}, linears on {} of them", grouped(report.tokens), grouped(report.sampled_tokens)),
        ),
        ("perplexity", format!("{quantized_perplexity:.4} quantized, {reference_perplexity:.4} float")),
        ("KL", format!("{kl_mean:.4} nats per token, at most {kl_max:.4}")),
        ("top-1", format!("{:.1} % of tokens agree", 100.0 * top1_agreement)),
        ("recommended", recommended(report)),
    ];
    if quantized_perplexity < reference_perplexity {
        let why = "the quantized model reads the text better: such floats were trained to be ternary";
        rows.push(("note", why.to_owned()));
    }
    rows
}

/// How often which precision is recommended, the fewest bits first.
fn recommended(report: &Report) -> String {
    let mut kinds: Vec<(f64, String, usize)> = Vec::new();
    for layer in &report.layers {
        let name = layer.recommended.to_string();
        match kinds.iter_mut().find(|(_, kind, _)| *kind == name) {
            Some((.., count)) => *count += 1,
            None => kinds.push((layer.recommended.bits(), name, 1)),
        }
    }
    kinds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let kinds: Vec<String> = kinds.into_iter().map(|(_, name, count)| format!("{name} {count}")).collect();
    let (kinds, bits, least) = (kinds.join(", "), report.recommended_bits, report.min_sqnr_db);
    format!("{kinds}; {bits:.2} bits per weight, for at least {least} dB")
}
