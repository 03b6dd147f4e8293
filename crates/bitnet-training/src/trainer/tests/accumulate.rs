//! Gradients of a batch in parts are those of the whole.

use bitnet_core::tensor::with_threads;

use super::*;
use crate::Error;
use crate::autograd::Estimator;
use crate::data::Batch;
use crate::trainer::step::{Figures, Objective, gradients};

fn in_parts(accumulate: usize) -> TrainOptions {
    TrainOptions { accumulate, ..options(6) }
}

/// Loss and norm, and the gradient of each parameter.
fn gradients_of(trainer: &Trainer, batch: &Batch, parts: usize) -> ([f64; 2], Vec<Vec<f32>>) {
    with_threads(&trainer.pool, || {
        let objective = Objective { distillation: None, estimator: Estimator::Plain };
        let Figures { loss, norm, .. } =
            gradients(trainer.decoder(), &trainer.parameters, batch, parts, objective).unwrap();
        let of = |parameter: &Parameter| parameter.variable().gradient().unwrap().to_vec::<f32>().unwrap();
        ([loss, norm], trainer.parameters.iter().map(of).collect())
    })
}

fn assert_near(what: &str, got: &[f32], expected: &[f32]) {
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let error = norm(&mut got.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
    // Sums of the same products in another order.
    assert!(error < 2e-6, "{what}: {error}");
}

#[test]
fn parts_add_up_to_the_whole_however_much_each_has_to_learn() {
    let files = Files::new();
    let mut trainer = files.trainer("run", &options(6), 1).unwrap();
    let mut batch = trainer.data.next_batch();
    assert_eq!(batch.rows, 4);
    // As of a conversation with a short answer, and then of one without.
    for (unlearnt, parts) in [(1..SEQ_LEN - 2, 2), (1..SEQ_LEN - 2, 3), (1..SEQ_LEN - 2, 4), (0..SEQ_LEN, 4)]
    {
        batch.is_learnt[unlearnt].fill(false);
        let ([loss, norm], whole) = gradients_of(&trainer, &batch, 1);
        let ([loss_of_parts, norm_of_parts], sums) = gradients_of(&trainer, &batch, parts);
        assert!((loss_of_parts / loss - 1.0).abs() < 1e-6, "{loss_of_parts} {loss}");
        assert!((norm_of_parts / norm - 1.0).abs() < 1e-6, "{norm_of_parts} {norm}");
        for ((parameter, got), expected) in trainer.parameters.iter().zip(&sums).zip(&whole) {
            assert_near(parameter.name(), got, expected);
        }
    }
}

#[test]
fn a_run_in_parts_goes_on_bit_for_bit_and_is_another_run() {
    let files = Files::new();
    let mut whole = files.trainer("whole", &in_parts(3), 2).unwrap();
    whole.run(&mut ()).unwrap();
    let mut first = files.trainer("parts", &in_parts(3), 1).unwrap();
    assert_eq!(first.run(&mut StopAt(3)).unwrap(), Outcome::Stopped { step: 3 });
    drop(first);
    let error = files.trainer("parts", &in_parts(2), 1).unwrap_err();
    assert!(error.to_string().ends_with("accumulate was 3 and is 2"), "{error}");
    let mut second = files.trainer("parts", &in_parts(3), 1).unwrap();
    second.run(&mut ()).unwrap();
    assert_eq!(bits(&second), bits(&whole));
}

#[test]
fn a_step_has_a_sequence_for_each_part() {
    let files = Files::new();
    for parts in [0, 5] {
        let error = files.trainer("run", &in_parts(parts), 1).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { name: "accumulate", .. }), "{error}");
        assert!(error.to_string().ends_with(&format!("not {parts} of 4 sequences")), "{error}");
    }
}
