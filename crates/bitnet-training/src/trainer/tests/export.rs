//! The model that is written is the one that was evaluated, as the engine reads it.

use bitnet_inference::{LoadOptions, LoadedModel};

use super::*;

#[test]
fn the_engine_finds_the_loss_of_the_best_evaluation() {
    let files = Files::new();
    let options = TrainOptions { eval_every: Some(1), ..options(4) };
    let mut trainer = files.trainer("run", &options, 2).unwrap();
    // What comes behind step 2 is worse.
    let mut poison = Poison::new(&trainer, 100.0, 2);
    let trained = trained(trainer.run(&mut poison).unwrap());
    let metrics = files.metrics("run");
    assert!(metrics[2].eval_loss > metrics[1].eval_loss && metrics[1].eval_loss < metrics[0].eval_loss);
    assert_eq!((trained.model_step, trained.eval_loss), (2, metrics[1].eval_loss));

    let engine = LoadedModel::open(&trained.model, &LoadOptions::default()).unwrap();
    let text = fs::read_to_string(files.path("eval.txt")).unwrap();
    let found = engine.perplexity(&text, SEQ_LEN, None, |_, _| Ok::<_, bitnet_inference::Error>(())).unwrap();
    assert_eq!(found.windows, trainer.eval.as_ref().unwrap().len());
    let difference = found.nll - trained.eval_loss.unwrap();
    assert!(difference.abs() < 1e-6, "{} {:?}", found.nll, trained.eval_loss);
    assert_eq!(format!("{:.4}", found.perplexity), format!("{:.4}", trained.eval_loss.unwrap().exp()));
}

#[test]
fn a_run_leaves_its_files_and_its_model_is_a_start() {
    let files = Files::new();
    let mut trainer = files.trainer("run", &options(2), 1).unwrap();
    let trained = trained(trainer.run(&mut ()).unwrap());
    let expected = ["checkpoints", "loss.png", "loss.svg", "metrics.jsonl", "model", "tokens"];
    assert_eq!(names(&files.path("run")), expected);
    assert_eq!(
        names(&trained.model),
        [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    assert!(fs::read_to_string(files.path("run/loss.svg")).unwrap().starts_with("<svg"));
    let checkpoint = bitnet_inference::Checkpoint::open(&trained.model).unwrap();
    let start = Start::model(&checkpoint).unwrap();
    let copy = files.path("copy");
    start.write(&copy, &trainer.pool).unwrap();
    let model = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(model(&copy), model(&trained.model));
}
