//! Tokens that a backend offers under a cut, against all logits: none that the cut keeps is missing, and each has the
//! logit that the whole head gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitnet_inference::backend::{Adjustment, Candidate, Cut, TokenMask, Traffic};
use bitnet_inference::{LoadOptions, LoadedModel};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn tiny() -> Arc<LoadedModel> {
    LoadedModel::embedded(&LoadOptions::default()).unwrap()
}

/// bitnet-mini and a text, where the shared folder exists.
fn mini() -> Option<(Arc<LoadedModel>, String)> {
    let shared = root().join("../shared");
    let Ok(text) = std::fs::read_to_string(shared.join("data/wikitext2-valid.txt")) else {
        eprintln!("skipped bitnet-mini: {} is not there", shared.display());
        return None;
    };
    Some((LoadedModel::open(&shared.join("models/bitnet-mini"), &LoadOptions::default()).unwrap(), text))
}

/// Ids of a text, or counted ones where there is none.
fn ids(model: &LoadedModel, text: Option<&str>, positions: usize) -> Vec<u32> {
    let vocab_size = model.config().vocab_size as u32;
    match text {
        Some(text) => {
            model.tokenizer().unwrap().encode(text, true).unwrap().into_iter().take(positions).collect()
        }
        None => (0..positions as u32).map(|i| i * 7919 % vocab_size).collect(),
    }
}

/// What `cut` keeps of all logits.
fn kept(logits: &[f32], cut: &Cut<'_>) -> Vec<Candidate> {
    let penalised = |id: usize| cut.penalise(id, logits[id]);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| penalised(*b).total_cmp(&penalised(*a)).then(a.cmp(b)));
    let level = penalised(order[0]) - cut.below_best;
    let kept = order.into_iter().take(cut.top_k).take_while(|id| penalised(*id) >= level);
    let mut kept: Vec<Candidate> = kept.map(|id| Candidate { id: id as u32, logit: logits[id] }).collect();
    kept.sort_by_key(|candidate| candidate.id);
    kept
}

/// Decodes `ids` and compares under every cut of `cuts`; returns what was read for the choices.
fn compare(model: &LoadedModel, ids: &[u32], cuts: &[Cut<'_>]) -> Traffic {
    let window = model.config().context_length.min(512);
    let mut total = Traffic::default();
    for ids in ids.chunks(window) {
        let mut sequence = model.backend().start(ids.len()).unwrap();
        for id in ids {
            sequence.feed(&[*id], 1).unwrap();
            let logits = sequence.logits(1).unwrap().to_vec();
            for cut in cuts {
                let before = sequence.traffic();
                let got = sequence.candidates(cut).unwrap().to_vec();
                total = total + (sequence.traffic() - before);
                assert!(got.is_sorted_by_key(|candidate| candidate.id));
                for expected in kept(&logits, cut) {
                    assert!(got.contains(&expected), "{expected:?} is missing under {cut:?}");
                }
                for candidate in got {
                    assert_eq!(candidate.logit, logits[candidate.id as usize], "{candidate:?}");
                }
            }
        }
    }
    total
}

#[test]
fn no_choice_is_missed_under_any_cut() {
    let model = tiny();
    let vocab_size = model.config().vocab_size;
    let counts: Vec<u32> = (0..vocab_size).map(|id| u32::from(id.is_multiple_of(3))).collect();
    let offsets: Vec<f32> = (0..vocab_size).map(|id| (id % 7) as f32 * 0.3 - 0.9).collect();
    let mut allowed = TokenMask::default();
    allowed.set(&vec![0x0101_0104; vocab_size.div_ceil(32)], vocab_size);
    let cut = |top_k, below_best, repetition_penalty: f32| {
        let may_raise = repetition_penalty < 1.0;
        let adjustment = Adjustment { repetition_penalty, counts: &counts, may_raise, ..Adjustment::NONE };
        Cut { top_k, below_best, adjustment }
    };
    let shifted = Adjustment { offsets: &offsets, may_raise: true, ..Adjustment::NONE };
    let masked = Adjustment { allowed: Some(&allowed), ..Adjustment::NONE };
    let cuts = [
        Cut::GREEDY,
        cut(1, f32::INFINITY, 1.3),
        cut(40, f32::INFINITY, 1.0),
        cut(40, f32::INFINITY, 0.7),
        cut(usize::MAX, 2.0, 1.2),
        cut(8, 1.5, 1.0),
        cut(usize::MAX, f32::INFINITY, 1.0),
        cut(1000, f32::INFINITY, 1.0),
        Cut { adjustment: shifted, ..Cut::GREEDY },
        Cut { top_k: 20, adjustment: Adjustment { allowed: Some(&allowed), ..shifted }, ..Cut::ALL },
        Cut { adjustment: masked, ..Cut::GREEDY },
        Cut { top_k: allowed.count(), below_best: 3.0, adjustment: masked },
    ];
    compare(&model, &ids(&model, None, 200), &cuts);
}

fn greedy_equals_the_full_head(positions: usize) {
    let Some((model, text)) = mini() else { return };
    let ids = ids(&model, Some(&text), positions);
    let traffic = compare(&model, &ids, &[Cut::GREEDY]);
    println!(
        "bitnet-mini: {} positions, {:.1} of {} rows rescored on average",
        ids.len(),
        traffic.rescored_rows as f64 / ids.len() as f64,
        traffic.scored_rows / ids.len() as u64,
    );
}

#[test]
fn greedy_equals_the_full_head_on_some_hundred_positions() {
    greedy_equals_the_full_head(300);
}

#[test]
#[ignore = "takes minutes: make nightly"]
fn greedy_equals_the_full_head_on_a_hundred_thousand_positions() {
    greedy_equals_the_full_head(100_000);
}
