//! Reports of the embedded model, which is packed, and of masters with the same codes and scales.

use std::path::Path;

use super::*;
use crate::convert::{self, ConvertOptions, Target};

fn pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPool::new(threads).unwrap())
}

/// The embedded model as a float master.
fn master() -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master");
    let options = ConvertOptions::new("bf16".parse::<Target>().unwrap());
    let embedded = Checkpoint::embedded().unwrap();
    convert::convert(&embedded, &path, &options, &pool(2), &mut |_, _| std::ops::ControlFlow::Continue(()))
        .unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    (folder, checkpoint)
}

fn run(
    model: &Checkpoint,
    reference: Option<&Checkpoint>,
    options: &ReportOptions,
    threads: usize,
) -> Result<Report> {
    report(model, reference, None, options, &pool(threads), |_, _| Ok::<(), Error>(()))
}

#[test]
fn nothing_depends_on_the_threads() {
    let (_folder, master) = master();
    let json = |threads| {
        let report = run(&master, None, &ReportOptions::default(), threads).unwrap();
        serde_json::to_string(&report).unwrap()
    };
    let expected = json(1);
    assert_eq!(json(2), expected);
    assert_eq!(json(3), expected);
}

#[test]
fn a_packed_model_is_measured_as_its_master_is() {
    let (_folder, master) = master();
    let options = ReportOptions::default();
    let of_packed = run(&Checkpoint::embedded().unwrap(), Some(&master), &options, 2).unwrap();
    let of_master = run(&master, None, &options, 2).unwrap();
    assert_eq!(of_packed.end_to_end, of_master.end_to_end);
    assert_eq!(of_packed.layers.len(), 28);
    for (packed, floats) in of_packed.layers.iter().zip(&of_master.layers) {
        assert_eq!((&packed.name, &packed.errors), (&floats.name, &floats.errors));
        assert_eq!(packed.quantized, Some(floats.errors[0].1));
        assert!(floats.quantized.is_none());
    }
}

#[test]
fn figures_follow_from_each_other() {
    let (_folder, master) = master();
    let options = ReportOptions { tokens: 100, min_sqnr_db: 30.0, ..ReportOptions::default() };
    let mut steps = Vec::new();
    let report = report(&master, None, None, &options, &pool(2), |done, all| {
        steps.push((done, all));
        Ok::<(), Error>(())
    })
    .unwrap();
    assert_eq!(steps, (0..29).map(|done| (done, 29)).collect::<Vec<_>>());
    assert_eq!((report.tokens, report.sampled_tokens), (100, 64));
    assert!(report.layers.is_sorted_by_key(Layer::sqnr_db));
    for layer in &report.layers {
        let input = &report.inputs[layer.input];
        assert!(input.linears.contains(&layer.name), "{layer:?}");
        assert_eq!(input.statistics.count(), (100 * layer.cols) as u64);
        let meets = layer.errors.iter().filter(|(_, error)| error.sqnr_db >= 30.0);
        let fewest = meets.map(|(precision, _)| *precision).min_by(|a, b| a.bits().total_cmp(&b.bits()));
        assert_eq!(layer.recommended, fewest.unwrap_or(Precision::Float));
        assert_eq!(layer.stored_bits, 16.0);
    }
    let inputs: Vec<&str> =
        report.inputs.iter().flat_map(|input| &input.linears).map(String::as_str).collect();
    assert_eq!(inputs[..2], ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"]);
    assert_eq!(inputs.len(), 28);
    // The perplexity of the quantized model is that of the loaded model.
    let model = crate::LoadedModel::from_checkpoint(&master, &crate::LoadOptions::default()).unwrap();
    let expected = model.perplexity(TEXT, 100, Some(1), |_, _| Ok::<(), Error>(())).unwrap().perplexity;
    assert!((report.end_to_end.quantized_perplexity / expected - 1.0).abs() < 1e-12);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let (_folder, master) = master();
    let embedded = Checkpoint::embedded().unwrap();
    let options = ReportOptions::default();
    let refused =
        |model: &Checkpoint, reference: Option<&Checkpoint>, options: &ReportOptions, fact: &str| {
            let error = run(model, reference, options, 1).unwrap_err().to_string();
            assert!(error.contains(fact), "{error}");
        };
    refused(&embedded, None, &options, "model.safetensors: its weights are packed");
    refused(&master, Some(&embedded), &options, "needed is the float checkpoint of this model");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let micro = Checkpoint::open(&fixtures.join("micro")).unwrap();
    refused(&micro, Some(&master), &options, "another shape than the reference");
    let with = |change: fn(&mut ReportOptions)| {
        let mut options = ReportOptions::default();
        change(&mut options);
        options
    };
    refused(&master, None, &with(|options| options.tokens = 0), "tokens must be at least 1");
    refused(&master, None, &with(|options| options.precisions.clear()), "precisions must be at least one");
    let twice = with(|options| options.precisions = vec![Precision::Int(4); 2]);
    refused(&master, None, &twice, "not int4 twice");
    refused(&master, None, &with(|options| options.min_sqnr_db = f64::NAN), "min_sqnr_db must be a number");
    let run = |text| report(&master, None, Some(text), &options, &pool(1), |_, _| Ok::<(), Error>(()));
    assert!(matches!(run(""), Err(Error::TextTooShort { tokens: 1, needed: 2 })));
    let stopped = report(&master, None, None, &options, &pool(1), |_, _| Err(Error::EmptyPrompt));
    assert!(matches!(stopped, Err(Error::EmptyPrompt)));
}
