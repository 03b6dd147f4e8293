//! Sequences and their order.

use std::sync::Arc;

use super::super::{Batch, Loader, Order, Position};
use super::*;

fn learnt(batch: &Batch) -> Vec<u8> {
    batch.is_learnt.iter().map(|&is_learnt| u8::from(is_learnt)).collect()
}

#[test]
fn a_stream_runs_over_documents_and_files() {
    let files = Files::new();
    let end = END as u16;
    let parts = vec![files.array("a.npy", &[1, 2, end, 3, 4]), files.array("b.npy", &[5, 6, end, 7])];
    let data = dataset(parts, 4, Packing::Stream);
    assert_eq!((data.len(), data.tokens()), (2, 9));
    let batch = data.batches(2).next().unwrap();
    assert_eq!((batch.rows, batch.seq_len), (2, 4));
    assert_eq!(batch.ids, [1, 2, END, 3, 4, 5, 6, END]);
    assert_eq!(batch.targets, [2, END, 3, 4, 5, 6, END, 7]);
    // Nothing is predicted across documents, and nothing seen.
    assert_eq!(learnt(&batch), [1, 1, 0, 1, 0, 1, 1, 0]);
    assert_eq!(batch.positions, [0, 1, 2, 0, 0, 0, 1, 2]);
    assert_eq!((0..8).map(|at| batch.first_key(at)).collect::<Vec<_>>(), [0, 0, 0, 3, 0, 1, 1, 1]);
    assert_eq!(batch.learnt(), 5);
}

#[test]
fn whole_documents_are_padded() {
    let files = Files::new();
    let end = END as u16;
    let parts = vec![files.array("a.npy", &[1, end, 2, 3, 4, end, 5, 6, 7, 8, 9, 10, end])];
    let data = dataset(parts, 4, Packing::Documents);
    let batch = data.batches(9).next().unwrap();
    assert_eq!(batch.rows, 4);
    let row = |row: usize| {
        let part = row * 4..row * 4 + 4;
        (
            batch.ids[part.clone()].to_vec(),
            learnt(&batch)[part.clone()].to_vec(),
            batch.positions[part].to_vec(),
        )
    };
    assert_eq!(row(0), (vec![1, END, 0, 0], vec![1, 0, 0, 0], vec![0, 1, 0, 1]));
    assert_eq!(row(1), (vec![2, 3, 4, END], vec![1, 1, 1, 0], vec![0, 1, 2, 3]));
    assert_eq!(row(2), (vec![5, 6, 7, 8], vec![1; 4], vec![0, 1, 2, 3]));
    assert_eq!(row(3), (vec![9, 10, END, 0], vec![1, 1, 0, 0], vec![0, 1, 2, 0]));
}

#[test]
fn only_answers_count_and_sequences_without_any_are_left_out() {
    let files = Files::new();
    let question = "why ".repeat(40);
    let lines = format!(
        r#"{{"messages": [{{"role": "user", "content": "{question}"}}, {{"role": "assistant", "content": "so"}}]}}"#
    );
    let file = files.read("a.jsonl", lines).unwrap();
    let answers: usize = file.loss().unwrap().iter().map(|&loss| usize::from(loss)).sum();
    assert_eq!(answers, 2);
    let tokens = file.ids().len();
    let data = dataset(vec![file], 16, Packing::Documents);
    assert!(tokens > 32 && data.len() == 1, "{tokens}");
    let batch = data.batches(4).next().unwrap();
    assert_eq!(batch.learnt(), answers);
    let learnt = batch.targets.iter().zip(&batch.is_learnt).filter(|(_, is_learnt)| **is_learnt);
    let answer = files.tokenizer.encode("so<|eot_id|>", false).unwrap();
    assert_eq!(learnt.map(|(target, _)| *target).collect::<Vec<_>>(), answer);
}

#[test]
fn evaluation_reads_every_sequence_in_order() {
    let files = Files::new();
    let ids: Vec<u16> = (0..32).collect();
    let data = dataset(vec![files.array("a.npy", &ids)], 3, Packing::Stream);
    let batches: Vec<Batch> = data.batches(4).collect();
    assert_eq!(batches.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [4, 4, 2]);
    let read: Vec<u32> = batches.iter().flat_map(|batch| batch.ids.clone()).collect();
    assert_eq!(read, (0..30).collect::<Vec<u32>>());
}

#[test]
fn the_order_is_that_of_the_definition() {
    // Computed from the description by a program of its own.
    assert_eq!(Order::new(42, 0, 10).sequences(), [2, 1, 4, 3, 7, 0, 5, 8, 6, 9]);
    assert_eq!(Order::new(42, 1, 10).sequences(), [2, 6, 1, 5, 4, 3, 0, 9, 8, 7]);
    assert_eq!(Order::new(7, 0, 3).sequences(), [2, 1, 0]);
    let long = Order::new(1, 2, 1000);
    assert_eq!(long.sequences()[..5], [700, 172, 981, 52, 317]);
    assert_eq!(long.sequences()[995..], [493, 36, 876, 457, 738]);
}

fn loader(rows: usize, seed: u64) -> Loader {
    let files = Files::new();
    let ids: Vec<u16> = (0..23).collect();
    Loader::new(Arc::new(dataset(vec![files.array("a.npy", &ids)], 2, Packing::Stream)), rows, seed)
}

#[test]
fn an_epoch_has_every_sequence_once() {
    let mut loader = loader(4, 3);
    assert_eq!(loader.data().len(), 11);
    let mut first: Vec<u32> = (0..11).flat_map(|_| loader.next_batch().ids).step_by(2).collect();
    assert_eq!(loader.position(), Position { epoch: 3, sequence: 11 });
    for epoch in first.chunks_mut(11) {
        epoch.sort_unstable();
        assert_eq!(epoch, (0..11).map(|sequence| 2 * sequence).collect::<Vec<u32>>());
    }
}

#[test]
fn a_run_goes_on_from_any_position() {
    let mut whole = loader(4, 5);
    let mut expected = Vec::new();
    for _ in 0..9 {
        expected.push((whole.position(), whole.next_batch()));
    }
    for (index, (position, _)) in expected.iter().enumerate() {
        let mut resumed = loader(4, 5);
        resumed.seek(*position);
        for (position, batch) in &expected[index..] {
            assert_eq!((resumed.position(), resumed.next_batch()), (*position, batch.clone()));
        }
    }
    assert_ne!(loader(4, 6).next_batch(), expected[0].1, "another seed, another order");
}
