//! Adapters that are trained beside a model that stays as it is.

use bitnet_inference::convert::{ConvertOptions, HfForm, Target, convert};
use bitnet_inference::{Checkpoint, GenerateOptions, LoadOptions, LoadedModel};

use super::refusals::refused;
use super::resume::figures;
use super::*;
use crate::autograd::Segments;
use crate::nn::LoraOptions;
use crate::optim::Optimizer;
use crate::trainer::{Sample, SampleOptions};

const LORA: LoraOptions = LoraOptions { rank: 2, alpha: None };

impl Files {
    /// A master in the folder `master`, drawn by a seed, and the same packed in the folder `packed`.
    fn base(&self, seed: u64) -> Checkpoint {
        let pool = ThreadPool::new(1).unwrap();
        let (master, packed) = (self.path("master"), self.path("packed"));
        if !master.exists() {
            self.start(seed).unwrap().write(&master, &pool).unwrap();
            let options = ConvertOptions::new(Target::Hf(HfForm::Divide));
            let source = Checkpoint::open(&master).unwrap();
            convert(&source, &packed, &options, &pool, &mut |_, _| ControlFlow::Continue(())).unwrap();
        }
        Checkpoint::open(&packed).unwrap()
    }

    /// A run that trains an adapter.
    fn adapter(&self, run: &str, lora: LoraOptions, steps: u64, threads: usize) -> Result<Trainer> {
        let options = TrainOptions { learning_rate: Some(2e-2), ..options(steps) };
        self.trainer_of(Start::adapter(self.base(3), &lora, 9)?, run, &options, threads)
    }
}

fn engine(model: &Path, adapter: Option<&Path>) -> Arc<LoadedModel> {
    let options = LoadOptions { adapter: adapter.map(Path::to_owned), ..LoadOptions::default() };
    LoadedModel::open(model, &options).unwrap()
}

fn perplexity(files: &Files, model: &LoadedModel) -> bitnet_inference::Perplexity {
    let text = fs::read_to_string(files.path("eval.txt")).unwrap();
    model.perplexity(&text, SEQ_LEN, None, |_, _| Ok::<_, bitnet_inference::Error>(())).unwrap()
}

#[test]
fn the_engine_finds_the_loss_of_the_adapter_beside_either_form_of_the_model() {
    let files = Files::new();
    let mut trainer = files.adapter("run", LORA, 8, 2).unwrap();
    let done = trained(trainer.run(&mut ()).unwrap());
    assert_eq!(done.model, files.path("run/adapter"));
    assert_eq!(names(&done.model), ["adapter_config.json", "adapter_model.safetensors"]);
    assert!(!files.path("run/model").exists());

    let ids: Vec<u32> = (0..40).map(|i| (i * i * 7 + 3) % 259).collect();
    let logits = trainer.decoder().logits(&ids, &Segments::new([ids.len()]).unwrap()).unwrap();
    let logits: Vec<u32> = logits.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    for base in ["master", "packed"] {
        let base = files.path(base);
        let engine = engine(&base, Some(&done.model));
        let mut found = Vec::new();
        let keep = |_: usize, logits: &[f32]| {
            found.extend(logits.iter().map(|x| x.to_bits()));
            Ok::<_, bitnet_inference::Error>(())
        };
        engine.visit_logits(&ids, 7, keep).unwrap();
        assert!(found == logits, "bits of training and engine");
        let found = perplexity(&files, &engine);
        let loss = done.eval_loss.unwrap();
        assert!((found.nll - loss).abs() < 1e-6, "{} {loss}", found.nll);
        assert_eq!(format!("{:.4}", found.perplexity), format!("{:.4}", loss.exp()));
        let before = perplexity(&files, &self::engine(&base, None)).nll;
        assert!(loss < before - 0.1, "{loss} {before}");
    }
}

#[test]
fn adapters_alone_are_trained_and_begin_as_nothing() {
    let files = Files::new();
    let trainer = files.adapter("run", LORA, 1, 1).unwrap();
    assert_eq!(trainer.parameters.len(), 2 * 7 * 2);
    assert!(trainer.parameters.iter().all(|parameter| parameter.name().contains(".lora_")));
    // Two moments each, and no more.
    let state = trainer.optimizer.state().unwrap();
    let [trained, all] = trainer.parameter_counts();
    let number_of_step = 1;
    assert_eq!(state.values().map(Tensor::len).sum::<usize>(), 2 * trained + number_of_step);
    let summary = engine(&files.path("packed"), None).summary().clone();
    assert_eq!(all, summary.parameters + trained);

    let folder = files.path("untrained");
    trainer.start.write(&folder, &trainer.pool).unwrap();
    let untrained = perplexity(&files, &engine(&files.path("packed"), Some(&folder)));
    assert_eq!(untrained, perplexity(&files, &engine(&files.path("packed"), None)));
}

#[test]
fn a_stopped_run_goes_on_bit_for_bit() {
    let files = Files::new();
    let mut whole = files.adapter("whole", LORA, 6, 2).unwrap();
    whole.run(&mut ()).unwrap();
    let mut first = files.adapter("parts", LORA, 6, 1).unwrap();
    assert_eq!(first.run(&mut StopAt(3)).unwrap(), Outcome::Stopped { step: 3 });
    drop(first);
    let mut second = files.adapter("parts", LORA, 6, 2).unwrap();
    assert_eq!(second.step(), 3);
    second.run(&mut ()).unwrap();
    assert_eq!(figures(&files.metrics("parts")), figures(&files.metrics("whole")));
    assert_eq!(bits(&second), bits(&whole));
    let file = |run: &str| fs::read(files.path(run).join("adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(file("parts"), file("whole"));
}

#[test]
fn ranks_alphas_and_other_models_are_refused() {
    let files = Files::new();
    let adapter = |rank, alpha| refused(files.adapter("run", LoraOptions { rank, alpha }, 1, 1));
    // The keys have 16 outputs.
    for rank in [0, 17] {
        let expected = format!("lora must be from 1 to the width of the narrowest projection, not {rank}");
        assert_eq!(adapter(rank, None), expected);
    }
    for alpha in [0.0, -1.0, f64::NAN] {
        assert_eq!(adapter(2, Some(alpha)), format!("lora_alpha must be a number above 0, not {alpha}"));
    }
    files.adapter("run", LORA, 2, 1).unwrap().run(&mut ()).unwrap();
    let error = refused(files.adapter("run", LoraOptions { alpha: Some(2.0), ..LORA }, 2, 1));
    assert!(error.ends_with("cannot go on from here: lora-alpha was 4 and is 2"), "{error}");
    for folder in ["master", "packed"] {
        fs::remove_dir_all(files.path(folder)).unwrap();
    }
    files.base(4);
    let error = refused(files.adapter("run", LORA, 2, 1));
    assert!(error.contains("the adapted model was "), "{error}");
}

#[test]
fn samples_are_what_the_engine_writes_with_the_adapter() {
    let files = Files::new();
    let samples = Some(SampleOptions { every: 4, prompt: "The 7th".to_owned() });
    let options = TrainOptions { learning_rate: Some(2e-2), samples, ..options(8) };
    let start = Start::adapter(files.base(3), &LORA, 9).unwrap();
    let mut trainer = files.trainer_of(start, "run", &options, 2).unwrap();
    let done = trained(trainer.run(&mut ()).unwrap());
    assert_eq!(done.model_step, 8);
    let samples: Vec<Sample> = metrics::read(&files.path("run/samples.jsonl")).unwrap();
    let [_, last] = &samples[..] else { panic!("{samples:?}") };
    let text = |adapter| {
        let model = engine(&files.path("packed"), adapter);
        model.generate("The 7th", &GenerateOptions::default()).unwrap().text
    };
    assert_eq!((last.step, &last.text), (8, &text(Some(&done.model))));
    assert_ne!(last.text, text(None));
    assert!(!files.path("run/model.new").exists());
}
