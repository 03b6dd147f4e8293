//! Losses that are no number, or rise: back to the last checkpoint, with a lower rate.

use super::*;
use crate::Error;
use crate::guard::{GuardOptions, Trouble};

fn guarded(steps: u64) -> TrainOptions {
    let guard = GuardOptions { window: 4, patience: 2, retries: 2, ..GuardOptions::default() };
    TrainOptions { guard, save_every: Some(2), eval_every: Some(100), ..options(steps) }
}

#[test]
fn a_loss_that_is_no_number_takes_the_run_back() {
    let files = Files::new();
    let mut trainer = files.trainer("run", &guarded(8), 2).unwrap();
    let mut poison = Poison::new(&trainer, f32::NAN, 5);
    let trained = trained(trainer.run(&mut poison).unwrap());
    let [event] = poison.events[..] else { panic!("{:?}", poison.events) };
    assert_eq!((event.from, event.to, event.rate_factor), (6, 4, 0.5));
    assert!(matches!(event.trouble, Trouble::Loss(loss) if loss.is_nan()));
    assert_eq!(
        event.to_string(),
        "step 6: the loss is NaN; back to step 4, with 0.5 times the learning rate"
    );
    let metrics = files.metrics("run");
    assert_eq!(metrics.iter().map(|of| of.step).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    for of in &metrics {
        let factor = if of.step <= 4 { 1.0 } else { 0.5 };
        assert_eq!(of.lr as f32, trainer.recipe.learning_rate(of.step - 1) * factor);
        assert!(of.loss.is_finite());
    }
    assert!(trained.loss.is_some_and(f64::is_finite) && trained.eval_loss.is_some_and(f64::is_finite));
    drop(trainer);
    // The lower rate is part of what is saved.
    assert_eq!(files.trainer("run", &guarded(8), 1).unwrap().rate_factor, 0.5);
}

#[test]
fn a_rising_loss_does_and_nothing_of_it_is_saved() {
    let files = Files::new();
    let options = TrainOptions { save_every: Some(1), ..guarded(9) };
    let mut trainer = files.trainer("run", &options, 2).unwrap();
    let mut poison = Poison::new(&trainer, 100.0, 6);
    trainer.run(&mut poison).unwrap();
    let [event] = poison.events[..] else { panic!("{:?}", poison.events) };
    assert_eq!((event.from, event.to), (8, 6));
    assert!(matches!(event.trouble, Trouble::Spike { loss, median } if loss > 2.0 * median), "{event}");
    assert!(files.metrics("run").iter().all(|of| of.loss < 6.0));
}

#[test]
fn a_run_that_goes_wrong_again_and_again_ends_and_keeps_its_last_checkpoint() {
    let files = Files::new();
    let mut trainer = files.trainer("run", &guarded(8), 1).unwrap();
    let mut poison = Poison { times: 9, ..Poison::new(&trainer, f32::NAN, 3) };
    let error = trainer.run(&mut poison).unwrap_err();
    assert!(matches!(error, Error::Diverged { trouble: Trouble::Loss(_), .. }), "{error}");
    assert_eq!(poison.events.len(), 2);
    drop(trainer);
    let mut again = files.trainer("run", &guarded(8), 1).unwrap();
    assert_eq!(again.step(), 2);
    again.run(&mut ()).unwrap();
}
