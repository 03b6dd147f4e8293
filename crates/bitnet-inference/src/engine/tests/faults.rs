//! Backends that fail.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::backend::delegate::{delegate_backend, delegate_session};
use crate::backend::{Session, Work};

/// The model's backend, which fails when it is told to.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Backend>,
    fault: Fault,
    /// Batches so far.
    batches: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// In these batches.
    Batches(usize, usize),
    /// In these batches, by a panic.
    Panics(usize, usize),
    /// Whenever this token is read.
    Token(u32),
    /// For want of memory in batches of more tokens.
    Larger(usize),
}

#[derive(Debug)]
struct FaultySession {
    inner: Box<dyn Session>,
    fault: Fault,
    batches: Arc<AtomicUsize>,
}

fn faulty(fault: Fault) -> Arc<dyn Backend> {
    Arc::new(Faulty { inner: MODEL.shared_backend(), fault, batches: Arc::default() })
}

impl Backend for Faulty {
    delegate_backend!("faulty", inner);

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        let inner = self.inner.open(limits, kv_type)?;
        Ok(Box::new(FaultySession { inner, fault: self.fault, batches: Arc::clone(&self.batches) }))
    }
}

impl Session for FaultySession {
    delegate_session!(inner: hidden logits choose candidates copy_page traffic);

    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        let tokens: usize = batch.iter().map(|work| work.ids.len()).sum();
        let fails = match self.fault {
            Fault::Batches(from, to) => (from..to).contains(&number),
            Fault::Panics(from, to) => {
                assert!(!(from..to).contains(&number), "something is broken");
                false
            }
            Fault::Token(id) => batch.iter().any(|work| work.ids.contains(&id)),
            Fault::Larger(most) if tokens > most => return Err(Error::OutOfMemory { tokens }),
            Fault::Larger(_) => false,
        };
        if fails {
            return Err(Error::Backend { name: "faulty".to_owned(), reason: "it fails".to_owned() });
        }
        self.inner.execute(batch)
    }
}

/// Runs four requests on `backends`, and gives how each ended, and what was done about it.
fn run(backends: Vec<Arc<dyn Backend>>) -> (Vec<Result<Vec<u32>>>, crate::monitor::Snapshot) {
    let mut bench = Bench::on(backends, options(60));
    let answers: Vec<Answer> = (0..4).map(|kind| bench.submit(&prompt(kind), &request(8))).collect();
    bench.finish();
    assert_eq!(bench.scheduler.pages_in_use(), 0);
    let ends = answers.iter().map(|answer| answer.end().map(|generation| generation.token_ids)).collect();
    (ends, bench.monitor.snapshot())
}

fn prompt(kind: usize) -> Vec<u32> {
    // A token that no other prompt has.
    [vec![2010 + kind as u32], ids(kind, 40)].concat()
}

fn assert_right(kind: usize, end: &Result<Vec<u32>>) {
    assert_eq!(*end.as_ref().unwrap(), alone(&prompt(kind), &request(8)));
}

#[test]
fn a_batch_that_fails_once_is_tried_again() {
    for fault in [Fault::Batches(2, 3), Fault::Panics(2, 3)] {
        let (ends, stats) = run(vec![faulty(fault)]);
        ends.iter().enumerate().for_each(|(kind, end)| assert_right(kind, end));
        assert_eq!(stats.recoveries.of(Recovery::Retry), 1);
    }
}

#[test]
fn one_request_that_cannot_be_run_fails_alone() {
    let (ends, stats) = run(vec![faulty(Fault::Token(2012))]);
    for (kind, end) in ends.iter().enumerate() {
        match kind {
            2 => assert!(matches!(end, Err(Error::Backend { .. }))),
            _ => assert_right(kind, end),
        }
    }
    assert_eq!((stats.recoveries.of(Recovery::Isolate), stats.requests.failed), (1, 1));
}

#[test]
fn a_device_that_does_no_more_is_replaced() {
    // In the first steps the last of the prompts is not read yet.
    for fault in [Fault::Batches(5, 1000), Fault::Panics(5, 1000), Fault::Batches(0, 1000)] {
        let (ends, stats) = run(vec![faulty(fault), MODEL.shared_backend()]);
        ends.iter().enumerate().for_each(|(kind, end)| assert_right(kind, end));
        assert_eq!(stats.recoveries.of(Recovery::Fallback), 1);
    }
}

#[test]
fn without_another_device_the_requests_fail_and_the_next_ones_run() {
    let mut bench = Bench::on(vec![faulty(Fault::Panics(0, 6))], options(60));
    let failed = [0, 1].map(|kind| bench.submit(&prompt(kind), &request(8)));
    bench.finish();
    for answer in failed {
        let error = answer.end().unwrap_err().to_string();
        assert!(error.contains("faulty: it panicked: something is broken"), "{error}");
    }
    bench.steps(1);
    let next = bench.submit(&prompt(3), &request(8));
    bench.finish();
    assert_right(3, &next.end().map(|generation| generation.token_ids));
}

#[test]
fn with_too_little_memory_steps_become_smaller() {
    let (ends, stats) = run(vec![faulty(Fault::Larger(10))]);
    ends.iter().enumerate().for_each(|(kind, end)| assert_right(kind, end));
    assert!(stats.recoveries.of(Recovery::Degrade) >= 3, "{stats:?}");
}
