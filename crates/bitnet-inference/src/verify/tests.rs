//! Every mistake is made, and found.

use super::*;

fn tiny() -> (Checkpoint, Model, Tokenizer, Arc<ThreadPool>) {
    let pool = Arc::new(ThreadPool::new(2).unwrap());
    let checkpoint = Checkpoint::embedded().unwrap();
    let model = Model::load(&checkpoint, &pool).unwrap();
    let tokenizer = Tokenizer::read(&checkpoint).unwrap().unwrap();
    (checkpoint, model, tokenizer, pool)
}

fn read(model: &Model, tokenizer: &Tokenizer, pool: &Arc<ThreadPool>) -> Verification {
    let mut found = Verification { model: String::new(), checks: Vec::new(), tensors: Vec::new() };
    reading::check(&mut found, model, tokenizer, pool).unwrap();
    found
}

#[test]
fn a_sound_model_passes_every_check() {
    let (checkpoint, .., pool) = tiny();
    let found = verify(&checkpoint, Some(&checkpoint), &pool).unwrap();
    assert_eq!(found.status(), Status::Ok, "{:?}", found.checks);
    assert_eq!(found.tensors.len(), 28);
    let sums = found.tensors.iter().map(|tensor| tensor.minus + tensor.zero + tensor.plus);
    assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-9));
}

/// A mistake is made by undoing its opposite.
#[test]
fn every_mistake_is_found_and_named() {
    let (_, model, tokenizer, pool) = tiny();
    let twice = |model: &Model| {
        let mut model = model.clone();
        mistakes::tests::quantize_again(&mut model);
        Some(model)
    };
    let made = |opposite: Mistake| opposite.undo(&model, &pool).unwrap();
    for (broken, mistake) in [
        (made(Mistake::ScaleSense), Mistake::ScaleSense),
        (twice(&model), Mistake::QuantizedTwice),
        (made(Mistake::Activation), Mistake::Activation),
        (made(Mistake::I2S), Mistake::I2SArm),
        (made(Mistake::I2SArm), Mistake::I2S),
        (made(Mistake::Unpermuted), Mistake::Permuted),
        (made(Mistake::Permuted), Mistake::Unpermuted),
    ] {
        let found = read(&broken.unwrap(), &tokenizer, &pool);
        let failed: Vec<&Check> = found.checks.iter().filter(|check| check.status == Status::Fail).collect();
        let named: Vec<&&Check> = failed.iter().filter(|check| check.name != "reading").collect();
        let [check] = named[..] else { panic!("{mistake:?}: {:#?}", found.checks) };
        assert_eq!(check.name, mistake.name());
        assert!(check.fact.ends_with(mistake.remedy()), "{mistake:?}: {}", check.fact);
    }
}

#[test]
fn what_does_not_load_is_a_failed_check() {
    let (.., pool) = tiny();
    let files = [("config.json".to_owned(), b"{}".to_vec().into())].into();
    let checkpoint = Checkpoint::from_memory("broken", files, std::collections::BTreeMap::default());
    let found = verify(&checkpoint, None, &pool).unwrap();
    let [check] = &found.checks[..] else { panic!("{:?}", found.checks) };
    assert_eq!((check.name, check.status), ("structure", Status::Fail));
    assert!(check.fact.starts_with("broken"), "{}", check.fact);
}
