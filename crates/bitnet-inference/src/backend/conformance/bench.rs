//! Sessions of a backend under test, and answers to compare.

use std::ops::Range;

use super::Subject;
use super::candidates::check_candidates;
use crate::backend::{Adjustment, Backend, Choice, Cut, KvType, Limits, Page, Session, Work};
use crate::{Error, Result};

/// Why a rule is not kept.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// Fails unless `holds`.
pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what())) }
}

/// Room for the texts of all rules.
pub(super) const LIMITS: Limits = Limits { pages: 16, positions: 200, tokens: 256 };

/// A backend under test.
pub(super) struct Bench<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) subject: &'a Subject<'a>,
    pub(super) kv_type: KvType,
}

/// What a session says of one output.
pub(super) struct Answer {
    hidden: Option<Vec<f32>>,
    logits: Vec<f32>,
}

impl Bench<'_> {
    pub(super) fn open(&self) -> Result<Box<dyn Session>, Violation> {
        Ok(self.backend.open(LIMITS, self.kv_type)?)
    }

    /// Some text of its own for every sequence.
    pub(super) fn text(&self, sequence: usize, len: usize) -> Vec<u32> {
        (0..len).map(|i| ((i * 7919 + sequence * 104_729) % self.subject.vocab_size) as u32).collect()
    }

    /// Runs a batch, and asks all there is to ask of its outputs.
    pub(super) fn run(
        &self,
        session: &mut dyn Session,
        batch: &[Work<'_>],
    ) -> Result<Vec<Answer>, Violation> {
        session.execute(batch)?;
        self.answers(session, batch.iter().map(|work| work.outputs.min(work.ids.len())).sum())
    }

    /// What a session says of the outputs of its last batch, checked for what it says twice.
    fn answers(&self, session: &mut dyn Session, outputs: usize) -> Result<Vec<Answer>, Violation> {
        let vocab_size = self.subject.vocab_size;
        let logits = session.logits(0..outputs)?.to_vec();
        ensure(logits.len() == outputs * vocab_size, || {
            format!("{} logits for {outputs} outputs of {vocab_size} tokens", logits.len())
        })?;
        let counts: Vec<u32> = (0..vocab_size).map(|id| u32::from(id % 5 == 0)).collect();
        let adjustment = Adjustment { repetition_penalty: 1.3, counts: &counts, ..Adjustment::NONE };
        let cuts = [
            Cut::GREEDY,
            Cut { top_k: 20, adjustment, ..Cut::GREEDY },
            Cut { top_k: usize::MAX, below_best: 2.0, ..Cut::GREEDY },
            Cut::ALL,
        ];
        let choices: Vec<Choice<'_>> =
            (0..outputs).flat_map(|output| cuts.map(|cut| Choice { output, cut })).collect();
        self.check_choices(session, &choices, &logits)?;
        let hidden = match session.hidden(0..outputs) {
            Ok(hidden) => Some(hidden.to_vec()),
            Err(Error::Unsupported { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let rows = logits.chunks_exact(vocab_size).enumerate();
        let rows = rows.map(|(output, logits)| Answer {
            hidden: hidden.as_ref().map(|hidden| {
                let width = hidden.len() / outputs;
                hidden[output * width..(output + 1) * width].to_vec()
            }),
            logits: logits.to_vec(),
        });
        Ok(rows.collect())
    }

    /// Asks a session for `choices` of outputs with these logits, and fails unless its candidates are right.
    pub(super) fn check_choices(
        &self,
        session: &mut dyn Session,
        choices: &[Choice<'_>],
        logits: &[f32],
    ) -> Result<(), Violation> {
        let Subject { vocab_size, tolerance, .. } = *self.subject;
        session.choose(choices)?;
        for (index, Choice { output, cut }) in choices.iter().enumerate() {
            let logits = &logits[output * vocab_size..(output + 1) * vocab_size];
            check_candidates(session.candidates(index)?, logits, cut, tolerance)?;
        }
        Ok(())
    }

    /// Fails unless both are the same, as far as the backend promises.
    pub(super) fn same(&self, got: &[Answer], expected: &[Answer]) -> Result<(), Violation> {
        ensure(got.len() == expected.len(), || format!("{} outputs of {}", got.len(), expected.len()))?;
        for (output, (got, expected)) in got.iter().zip(expected).enumerate() {
            let tolerance = self.subject.tolerance;
            let is_close = |a: &f32, b: &f32| (a - b).abs() <= tolerance;
            let differ =
                |a: &[f32], b: &[f32]| a.len() != b.len() || a.iter().zip(b).any(|(a, b)| !is_close(a, b));
            let farthest = got.logits.iter().zip(&expected.logits).map(|(a, b)| (a - b).abs());
            ensure(!differ(&got.logits, &expected.logits), || {
                format!("logits of output {output} differ by {}", farthest.fold(0.0, f32::max))
            })?;
            if let (Some(got), Some(expected)) = (&got.hidden, &expected.hidden) {
                ensure(!differ(got, expected), || format!("hidden states of output {output} differ"))?;
            }
        }
        Ok(())
    }
}

/// Tokens of a text as an entry of a batch.
pub(super) fn work<'a>(text: &'a [u32], tokens: Range<usize>, pages: &'a [Page], outputs: usize) -> Work<'a> {
    Work { position: tokens.start, ids: &text[tokens], pages, outputs }
}
