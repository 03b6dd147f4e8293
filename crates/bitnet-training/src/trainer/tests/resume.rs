//! A run that was stopped, or killed, goes on as if it had not been.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::autograd::NoteFormat;
use crate::trainer::OptimizerName;

/// All figures but the speed.
pub(super) fn figures(metrics: &[Metrics]) -> Vec<(u64, u64, u64, u64, Option<u64>)> {
    let bits = f64::to_bits;
    let figures = |m: &Metrics| (m.step, bits(m.loss), bits(m.lr), bits(m.grad_norm), m.eval_loss.map(bits));
    metrics.iter().map(figures).collect()
}

#[test]
fn six_steps_are_three_and_three_bit_for_bit() {
    let files = Files::new();
    let mut whole = files.trainer("whole", &options(6), 2).unwrap();
    let of_whole = trained(whole.run(&mut ()).unwrap());
    let mut first = files.trainer("parts", &options(6), 1).unwrap();
    assert_eq!(first.run(&mut StopAt(3)).unwrap(), Outcome::Stopped { step: 3 });
    drop(first);
    let mut second = files.trainer("parts", &options(6), 2).unwrap();
    assert_eq!(second.step(), 3);
    let of_parts = trained(second.run(&mut ()).unwrap());
    assert_eq!(figures(&files.metrics("parts")), figures(&files.metrics("whole")));
    assert_eq!(bits(&second), bits(&whole));
    assert_eq!(Trained { model: of_whole.model.clone(), ..of_parts }, of_whole);
    assert!(whole.step() == 6 && of_whole.loss.is_some_and(|loss| loss < 5.6), "{of_whole:?}");
}

#[test]
fn so_are_those_of_moments_in_eight_bits_and_activations_in_bfloat16() {
    let files = Files::new();
    let small =
        TrainOptions { optimizer: OptimizerName::AdamW8Bit, notes: NoteFormat::BFloat16, ..options(6) };
    let mut whole = files.trainer("whole", &small, 2).unwrap();
    whole.run(&mut ()).unwrap();
    files.trainer("parts", &small, 1).unwrap().run(&mut StopAt(3)).unwrap();
    let error = files.trainer("parts", &options(6), 1).unwrap_err();
    let fact = "activation-dtype was bf16 and is f32; optimizer was adamw-8bit and is adamw";
    assert!(error.to_string().ends_with(fact), "{error}");
    let mut second = files.trainer("parts", &small, 1).unwrap();
    second.run(&mut ()).unwrap();
    assert_eq!(figures(&files.metrics("parts")), figures(&files.metrics("whole")));
    assert_eq!(bits(&second), bits(&whole));
}

/// Panics at a step, as good as a kill.
struct KillAt(u64);

impl Observer for KillAt {
    fn step(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        assert_ne!(progress.metrics.step, self.0, "killed");
        ControlFlow::Continue(())
    }
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let files = Files::new();
    let mut whole = files.trainer("whole", &options(6), 1).unwrap();
    whole.run(&mut ()).unwrap();
    let mut killed = files.trainer("killed", &options(6), 1).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| killed.run(&mut KillAt(5)))).is_err());
    drop(killed);
    let mut second = files.trainer("killed", &options(6), 1).unwrap();
    assert_eq!(second.step(), 4);
    second.run(&mut ()).unwrap();
    assert_eq!(figures(&files.metrics("killed")), figures(&files.metrics("whole")));
    assert_eq!(bits(&second), bits(&whole));
}

#[test]
fn a_finished_run_writes_its_model_again() {
    let files = Files::new();
    let first = trained(files.trainer("run", &options(2), 1).unwrap().run(&mut ()).unwrap());
    let model = || fs::read(files.path("run/model/model.safetensors")).unwrap();
    let before = model();
    // What a kill between two writes of the model may leave.
    fs::rename(files.path("run/model"), files.path("run/model.new")).unwrap();
    assert_eq!(trained(files.trainer("run", &options(2), 1).unwrap().run(&mut ()).unwrap()), first);
    assert_eq!(model(), before);
    assert!(!files.path("run/model.new").exists());
}
