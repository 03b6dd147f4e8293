//! The losses of several runs in one drawing.
//!
//!     cargo run -p bitnet-training --example compare_curves -- OUT.svg TITLE NAME=METRICS.jsonl ...
//!
//! Of each run the smoothed loss of its steps and, where it has them, the losses of evaluation.

use std::path::{Path, PathBuf};

use bitnet_inference::drawing::svg;
use bitnet_training::metrics::{self, Curve};
use bitnet_training::{Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, title, runs @ ..] = &arguments[..] else { return Err(usage("at least two")) };
    let mut curve = Curve { title: title.clone(), series: Vec::new() };
    for run in runs {
        let (name, path) = run.split_once('=').ok_or_else(|| usage("NAME=METRICS.jsonl"))?;
        let of_run = Curve::of_run(name, &metrics::read(Path::new(path))?);
        for mut series in of_run.series.into_iter().filter(|series| !series.is_faint) {
            series.name = format!("{name}, {}", series.name);
            curve.series.push(series);
        }
    }
    let path = PathBuf::from(out);
    std::fs::write(&path, svg::element(&curve.chart()))
        .map_err(|error| bitnet_inference::Error::io(path, error).into())
}

fn usage(expected: &'static str) -> Error {
    let got = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    Error::InvalidOption { name: "arguments", expected, got }
}
