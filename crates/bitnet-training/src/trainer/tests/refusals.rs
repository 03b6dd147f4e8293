//! What cannot be is said in one line, and nothing is changed.

use super::*;
use crate::trainer::{Preset, RecipeName};

pub(super) fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn a_run_goes_on_with_what_it_began_with_or_not_at_all() {
    let files = Files::new();
    files.trainer("run", &options(4), 1).unwrap().run(&mut StopAt(2)).unwrap();
    let other = |options: TrainOptions| refused(files.trainer("run", &options, 1));
    let error = other(TrainOptions { seed: 6, learning_rate: Some(1e-2), ..options(4) });
    assert!(
        error.contains("lr was 0.0015 and is 0.01; seed was 5 and is 6; the first model was "),
        "{error}"
    );
    assert!(other(options(5)).contains("steps was 4 and is 5"));
    fs::write(files.path("train.txt"), "Other words. ".repeat(50)).unwrap();
    let error = other(options(4));
    assert!(error.contains("cannot go on from here: file 1 of data was "), "{error}");
    assert!(
        refused(RunFolder::begin(&files.path("run"), 2))
            .ends_with("has a run already; resume it, or give another folder")
    );
}

#[test]
fn what_is_in_the_place_of_a_run_stays() {
    let files = Files::new();
    for name in ["model", "metrics.jsonl"] {
        let path = files.path("mine").join(name);
        fs::create_dir_all(&path).unwrap();
        let error = refused(RunFolder::resume(&files.path("mine"), 2));
        assert!(error.contains(name) && error.ends_with("is there already; give another folder"), "{error}");
        assert_eq!(names(&files.path("mine")), [name]);
        fs::remove_dir(path).unwrap();
    }
    // A file is no folder to write to.
    let error = refused(RunFolder::begin(&files.path("train.txt"), 2));
    assert!(error.contains("train.txt"), "{error}");
}

#[test]
fn options_and_data_must_fit_the_model() {
    let files = Files::new();
    let refused = |options: TrainOptions| refused(files.trainer("run", &options, 1));
    let long = refused(TrainOptions { seq_len: Some(65), ..options(1) });
    assert!(long.contains("sequences of 65 tokens do not fit the context of the model, 64"), "{long}");
    for (length, fact) in [
        (Length::Steps(0), "steps must be at least 1, not 0"),
        (Length::Epochs(f64::NAN), "epochs must be a number above 0, not NaN"),
    ] {
        assert_eq!(refused(TrainOptions { length, ..options(1) }), fact);
    }
    assert_eq!(
        refused(TrainOptions { learning_rate: Some(-1.0), ..options(1) }),
        "lr must be a number above 0, not -1"
    );
    fs::write(files.path("train.txt"), "Short").unwrap();
    assert!(refused(options(1)).contains("the data has 7 tokens, which make no sequence of 32"));
    fs::write(files.path("train.txt"), "").unwrap();
    assert!(refused(options(1)).ends_with("train.txt: is empty"));
}

#[test]
fn configs_and_models_must_be_ones_that_can_be_trained() {
    let files = Files::new();
    let start = |from: &str, to: &str| {
        fs::write(files.path("config.json"), CONFIG.replace(from, to)).unwrap();
        files.start(0)
    };
    assert!(
        refused(start("259", "200")).contains("vocab_size is 200, and the tokenizer of bytes has 259 tokens")
    );
    assert!(refused(start("\"hidden_size\": 32,", "")).contains("hidden_size is missing"));
    assert!(refused(start("{", "[")).contains("config.json"));
    assert!(refused(start("rms_norm_eps\": 1e-5", "attention_bias\": true")).contains("biases"));
    let section = refused(start("rms_norm_eps\": 1e-5", "quantization_config\": 5"));
    assert!(section.contains("quantization_config is no object"), "{section}");
}

#[test]
fn names_are_those_of_the_command_line() {
    for recipe in RecipeName::ALL {
        assert_eq!(recipe.name().parse::<RecipeName>().unwrap(), recipe);
    }
    for preset in Preset::ALL {
        assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
    }
    let unknown = refused("other".parse::<RecipeName>());
    assert_eq!(unknown, "recipe must be b1.58, finetune or distill, not other");
    assert_eq!(refused("huge".parse::<Preset>()), "preset must be tiny or mini, not huge");
}

#[test]
fn presets_have_the_parameters_that_they_say() {
    for (preset, millions) in [(Preset::Tiny, 3.7), (Preset::Mini, 19.2)] {
        let start = Start::preset(preset, 1).unwrap();
        let parameters = crate::nn::Module::parameters(start.decoder());
        let count: usize = parameters.iter().map(|of| of.variable().value().len()).sum();
        assert!((count as f64 / 1e6 - millions).abs() < 0.05, "{preset}: {count}");
    }
}
