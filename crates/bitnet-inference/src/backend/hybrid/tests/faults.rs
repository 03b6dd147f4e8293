//! Parts that fail.

use super::*;
use crate::backend::delegate::{delegate_backend, delegate_session};
use crate::backend::{Limits, Session, Work};
use crate::{Error, Result};

/// A part of a model that fails at its second batch, and at no other.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Backend>,
    panics: bool,
}

#[derive(Debug)]
struct FaultySession {
    inner: Box<dyn Session>,
    panics: bool,
    batches: usize,
}

impl Backend for Faulty {
    delegate_backend!("faulty", inner);

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        let inner = self.inner.open(limits, kv_type)?;
        Ok(Box::new(FaultySession { inner, panics: self.panics, batches: 0 }))
    }
}

impl Session for FaultySession {
    delegate_session!(inner: execute hidden logits choose candidates copy_page traffic);

    fn execute_from(&mut self, batch: &[Work<'_>], stream: &[f32]) -> Result<()> {
        self.batches += 1;
        if self.batches == 2 {
            assert!(!self.panics, "a wire is loose");
            return Err(Error::Backend { name: "wire".to_owned(), reason: "it is loose".to_owned() });
        }
        self.inner.execute_from(batch, stream)
    }
}

fn with_fault(panics: bool) -> HybridBackend {
    let mut parts = split(&[2]).parts().to_vec();
    parts[1].backend = Arc::new(Faulty { inner: Arc::clone(&parts[1].backend), panics });
    HybridBackend::new(parts).unwrap()
}

#[test]
fn a_part_that_fails_is_named_and_the_batch_may_be_run_again() {
    for (panics, expected) in [
        (false, "layers 2-3 on faulty: it is loose"),
        (true, "layers 2-3 on faulty: it panicked: a wire is loose"),
    ] {
        let mut sequence = with_fault(panics).start(16).unwrap();
        let mut right = MODEL.backend().start(16).unwrap();
        for sequence in [&mut sequence, &mut right] {
            sequence.feed(&[5, 6, 7], 1).unwrap();
        }
        assert_eq!(sequence.feed(&[8], 1).unwrap_err().to_string(), expected);
        for sequence in [&mut sequence, &mut right] {
            sequence.feed(&[8], 1).unwrap();
        }
        assert_eq!(sequence.logits(1).unwrap(), right.logits(1).unwrap());
    }
}

#[test]
fn an_engine_goes_on_where_a_part_fails_once() {
    assert_eq!(generate(Arc::new(with_fault(true))), generate(MODEL.shared_backend()));
}

#[test]
fn a_part_alone_says_what_it_cannot() {
    let parts = split(&[2]).parts().to_vec();
    let unsupported = |error| matches!(error, Error::Unsupported { .. });
    let mut first = parts[0].backend.start(8).unwrap();
    first.feed(&[1, 2], 1).unwrap();
    assert!(unsupported(first.logits(1).unwrap_err()));
    assert!(unsupported(first.hidden(1).unwrap_err()));
    let mut second = parts[1].backend.start(8).unwrap();
    assert!(unsupported(second.feed(&[1, 2], 1).unwrap_err()));
}

#[test]
fn parts_that_do_not_follow_each_other_are_an_error() {
    let parts = split(&[1, 2]).parts().to_vec();
    for parts in [vec![], vec![parts[1].clone()], vec![parts[0].clone(), parts[2].clone()]] {
        let error = HybridBackend::new(parts).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { name: "parts", .. }), "{error}");
    }
}
