//! The forward pass against hidden states of transformers, and against itself.

use std::path::Path;

use bitnet_core::{DType, Tensor};

use super::*;
use crate::Checkpoint;
use crate::backend::Cut;
use crate::model::Model;

fn sequence(threads: usize, isa: Isa, capacity: usize) -> Sequence<CpuSession> {
    let pool = Arc::new(ThreadPool::new(threads).unwrap());
    let model = Model::load(&Checkpoint::embedded().unwrap(), &pool).unwrap();
    let options = CpuOptions { isa: Some(isa), ..CpuOptions::default() };
    CpuBackend::new(model, pool, &options).unwrap().sequence(capacity)
}

fn golden(name: &str) -> Vec<f32> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden/bitnet-tiny.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap();
    let data = bitnet_core::Buffer::from_owner(view.data().to_vec());
    Tensor::new(DType::F32, view.shape(), data).unwrap().to_f32().unwrap()
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

fn logits(sequence: &mut Sequence<CpuSession>, ids: &[u32]) -> Vec<f32> {
    sequence.feed(ids, ids.len()).unwrap();
    sequence.logits(ids.len()).unwrap().to_vec()
}

const IDS: [u32; 7] = [2043, 555, 695, 473, 902, 289, 433];

#[test]
fn hidden_states_and_logits_equal_the_golden_ones() {
    let mut sequence = sequence(2, Isa::selected().unwrap(), 16);
    let mut layers = 0;
    sequence
        .feed_observed(&IDS, &mut |layer, observed| {
            let Observed::Stream(hidden) = observed else { return };
            layers += 1;
            let difference = mean_difference(hidden, &golden(&format!("hidden.{layer}")));
            assert!(difference < 2e-4, "in front of layer {layer}: {difference}");
        })
        .unwrap();
    assert_eq!(layers, 4);
    let difference = mean_difference(sequence.logits(IDS.len()).unwrap(), &golden("logits.0"));
    assert!(difference < 2e-3, "{difference}");
}

#[test]
fn prefill_at_once_equals_single_steps_bit_for_bit() {
    let mut together = sequence(1, Isa::Scalar, 16);
    let expected = logits(&mut together, &IDS);
    let mut one_by_one = sequence(1, Isa::Scalar, 16);
    for (id, expected) in IDS.iter().zip(expected.chunks_exact(2048)) {
        assert_eq!(logits(&mut one_by_one, &[*id]), expected);
    }
}

#[test]
fn fewer_outputs_are_those_of_the_last_tokens_bit_for_bit() {
    let expected = logits(&mut sequence(1, Isa::Scalar, 16), &IDS);
    for outputs in 1..IDS.len() {
        let mut sequence = sequence(2, Isa::selected().unwrap(), 16);
        sequence.feed(&IDS, outputs).unwrap();
        assert_eq!(sequence.logits(outputs).unwrap(), &expected[(IDS.len() - outputs) * 2048..]);
    }
    let mut in_two = sequence(2, Isa::selected().unwrap(), 16);
    in_two.feed(&IDS[..5], 0).unwrap();
    in_two.feed(&IDS[5..], 2).unwrap();
    assert_eq!(in_two.logits(2).unwrap(), &expected[5 * 2048..]);
}

#[test]
#[should_panic(expected = "logits of tokens that were fed for it")]
fn more_logits_than_outputs_are_nobodys() {
    let mut sequence = sequence(1, Isa::Scalar, 16);
    sequence.feed(&IDS, 2).unwrap();
    let _ = sequence.logits(3);
}

/// Candidates of every output under two cuts, and logits.
type Answers = Vec<(Vec<Candidate>, Vec<Candidate>, Vec<f32>)>;

/// Runs a batch in `session` and answers for all of its outputs.
fn run(session: &mut CpuSession, batch: &[Work<'_>]) -> Answers {
    session.execute(batch).unwrap();
    let outputs: usize = batch.iter().map(|work| work.outputs.min(work.ids.len())).sum();
    let seen: Vec<bool> = (0..2048).map(|id| id % 5 == 0).collect();
    let penalised = Cut { top_k: 20, repetition_penalty: 1.3, seen: &seen, ..Cut::GREEDY };
    let all = Cut { top_k: usize::MAX, ..Cut::GREEDY };
    let choices: Vec<Choice<'_>> =
        (0..outputs).flat_map(|output| [penalised, all].map(|cut| Choice { output, cut })).collect();
    session.choose(&choices).unwrap();
    let found = |choice| session.candidates(choice).unwrap().to_vec();
    let found: Vec<_> = (0..outputs).map(|output| (found(2 * output), found(2 * output + 1))).collect();
    let logits = session.logits(0..outputs).unwrap().to_vec();
    let rows = logits.chunks_exact(2048).map(<[f32]>::to_vec);
    found.into_iter().zip(rows).map(|((some, all), logits)| (some, all, logits)).collect()
}

fn session(limits: Limits, kv_type: KvType) -> CpuSession {
    let pool = Arc::new(ThreadPool::new(2).unwrap());
    let model = Model::load(&Checkpoint::embedded().unwrap(), &pool).unwrap();
    CpuBackend::new(model, pool, &CpuOptions::default()).unwrap().session(limits, kv_type)
}

/// Some text of its own for every sequence.
fn text(sequence: usize, len: usize) -> Vec<u32> {
    (0..len).map(|i| ((i * 7919 + sequence * 104_729) % 2048) as u32).collect()
}

#[test]
fn a_sequence_among_others_gives_the_bits_it_gives_alone() {
    let limits = Limits { pages: 16, positions: 200, tokens: 256 };
    // Tokens of each sequence in each step, and how many of their outputs are asked for.
    let steps = [[(70, 0), (3, 3), (0, 0)], [(1, 1), (1, 1), (130, 2)], [(60, 1), (1, 1), (1, 1)]];
    // Pages in no order, and never neighbours.
    let pages = [[9, 4, 1, 12], [15, 2, 8, 5], [0, 11, 7, 3]].map(|pages| pages.map(Page));
    for kv_type in KvType::ALL {
        let mut alone = [(); 3].map(|()| session(limits, kv_type));
        let mut together = session(limits, kv_type);
        let mut len = [0; 3];
        for step in steps {
            let texts: Vec<Vec<u32>> = (0..3).map(|i| text(i, len[i] + step[i].0)).collect();
            let work = |i: usize| Work {
                ids: &texts[i][len[i]..],
                position: len[i],
                pages: &pages[i],
                outputs: step[i].1,
            };
            let batch: Vec<Work<'_>> = (0..3).filter(|i| step[*i].0 > 0).map(work).collect();
            let mut expected = Answers::new();
            for i in (0..3).filter(|i| step[*i].0 > 0) {
                expected.extend(run(&mut alone[i], &[work(i)]));
            }
            assert!(run(&mut together, &batch) == expected, "{kv_type} {step:?}");
            for i in 0..3 {
                len[i] += step[i].0;
            }
        }
    }
}

#[test]
fn a_copied_page_is_as_good_as_the_first() {
    let limits = Limits { pages: 3, positions: 80, tokens: 80 };
    let ids = text(0, 80);
    for kv_type in KvType::ALL {
        let mut session = session(limits, kv_type);
        let work =
            |pages, from: usize, to: usize| Work { ids: &ids[from..to], position: from, pages, outputs: 1 };
        let expected = run(&mut session, &[work(&[Page(0), Page(1)], 0, 80)]);
        session.copy_page(Page(0), Page(2));
        assert!(run(&mut session, &[work(&[Page(2), Page(1)], 64, 80)]) == expected, "{kv_type}");
    }
}

#[test]
fn a_token_that_is_no_token_fails_its_batch_and_nothing_more() {
    let mut session = session(Limits { pages: 2, positions: 64, tokens: 64 }, KvType::F32);
    let work = |ids, page| Work { ids, position: 0, pages: page, outputs: 1 };
    let good = work(&[1, 2], &[Page(0)]);
    let expected = run(&mut session, &[good]);
    let failed = session.execute(&[good, work(&[5000], &[Page(1)])]);
    assert!(matches!(failed, Err(Error::TokenOutOfRange { id: 5000, vocab_size: 2048 })));
    assert!(run(&mut session, &[good]) == expected);
}

#[test]
fn every_isa_and_thread_count_gives_the_same_bits() {
    let expected = logits(&mut sequence(1, Isa::Scalar, 16), &IDS);
    for isa in Isa::available() {
        for threads in 1..4 {
            let got = logits(&mut sequence(threads, isa, 16), &IDS);
            assert_eq!(got, expected, "{isa} {threads}");
        }
    }
}

#[test]
fn beyond_the_capacity_is_an_error_and_changes_nothing() {
    let mut sequence = sequence(1, Isa::Scalar, 8);
    sequence.feed(&IDS, 1).unwrap();
    assert!(matches!(sequence.feed(&[1, 2], 1), Err(Error::ContextLength { .. })));
    assert!(matches!(sequence.feed(&[2048], 1), Err(Error::TokenOutOfRange { id: 2048, .. })));
    assert_eq!(sequence.len(), 7);
    sequence.feed(&[1], 1).unwrap();
}

#[test]
fn a_context_beyond_memory_is_an_error() {
    let pool = Arc::new(ThreadPool::new(1).unwrap());
    let model = Model::load(&Checkpoint::embedded().unwrap(), &pool).unwrap();
    let backend = CpuBackend::new(model, pool, &CpuOptions::default()).unwrap();
    for capacity in [usize::MAX, usize::MAX / 4096, 1 << 50] {
        assert!(matches!(backend.start(capacity), Err(Error::OutOfMemory { .. })), "{capacity}");
    }
}
