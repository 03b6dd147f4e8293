//! Texts of a run are those that its model writes, and change nothing in it.

use bitnet_inference::{GenerateOptions, LoadOptions, LoadedModel};

use super::*;
use crate::Error;
use crate::trainer::{Sample, SampleOptions};

fn sampled(every: u64, prompt: &str) -> TrainOptions {
    TrainOptions { samples: Some(SampleOptions { every, prompt: prompt.to_owned() }), ..options(6) }
}

fn samples(files: &Files, run: &str) -> Vec<Sample> {
    metrics::read(&files.path(run).join("samples.jsonl")).unwrap()
}

/// Keeps what it is told.
#[derive(Default)]
struct Listener(Vec<Sample>);

impl Observer for Listener {
    fn sample(&mut self, sample: &Sample) {
        self.0.push(sample.clone());
    }
}

#[test]
fn samples_are_what_the_written_model_writes() {
    let files = Files::new();
    let mut trainer = files.trainer("run", &sampled(3, "The 7th"), 2).unwrap();
    let mut listener = Listener::default();
    let trained = trained(trainer.run(&mut listener).unwrap());
    assert_eq!(samples(&files, "run"), listener.0);
    let [first, last] = &listener.0[..] else { panic!("{:?}", listener.0) };
    assert_eq!((first.step, last.step, last.prompt.as_str()), (3, 6, "The 7th"));
    assert_eq!(trained.model_step, 6);
    let model = LoadedModel::open(&trained.model, &LoadOptions::default()).unwrap();
    // As many as the context of 64 has room for.
    let text = model.generate("The 7th", &GenerateOptions::default()).unwrap().text;
    assert!(!text.is_empty());
    assert_eq!(last.text, text);
    let mut without = files.trainer("without", &options(6), 1).unwrap();
    without.run(&mut ()).unwrap();
    assert_eq!(bits(&without), bits(&trainer));
}

#[test]
fn a_resumed_run_has_each_sample_once() {
    let files = Files::new();
    let every_step = sampled(1, "The");
    files.trainer("whole", &every_step, 1).unwrap().run(&mut ()).unwrap();
    files.trainer("parts", &every_step, 1).unwrap().run(&mut StopAt(3)).unwrap();
    // Of a step behind the last checkpoint, as a killed run leaves it.
    let path = files.path("parts/samples.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    fs::write(&path, lines + "{\"step\":4,\"prompt\":\"The\",\"text\":\"lost\"}\n").unwrap();
    files.trainer("parts", &every_step, 1).unwrap().run(&mut ()).unwrap();
    let whole = samples(&files, "whole");
    assert_eq!(whole.iter().map(|sample| sample.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(samples(&files, "parts"), whole);
}

#[test]
fn a_run_that_goes_back_forgets_later_samples() {
    let files = Files::new();
    let mut trainer = files.trainer("run", &sampled(1, "The"), 1).unwrap();
    let mut poison = Poison::new(&trainer, f32::NAN, 3);
    trainer.run(&mut poison).unwrap();
    assert_eq!(poison.events.len(), 1);
    let steps: Vec<u64> = samples(&files, "run").iter().map(|sample| sample.step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn prompts_that_cannot_be_continued_are_refused_at_once() {
    let files = Files::new();
    for (every, prompt, fact) in [
        (0, "The", "sample-every must be at least 1"),
        (1, "", "sample-prompt must be a text that is not empty"),
        (1, &"The ".repeat(20), "not one of 8"),
    ] {
        let error = files.trainer("run", &sampled(every, prompt), 1).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
        assert!(error.to_string().contains(fact), "{error}");
    }
}
