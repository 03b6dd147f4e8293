//! What every backend must do, as a check that any test can run.
//!
//! ```
//! use bitnet_inference::backend::conformance::{Subject, check};
//! use bitnet_inference::{LoadOptions, LoadedModel};
//!
//! let model = LoadedModel::embedded(&LoadOptions::default())?;
//! check(model.backend(), &Subject::exact(model.config().vocab_size)).assert_passed();
//! # Ok::<(), bitnet_inference::Error>(())
//! ```
//!
//! Every rule runs for every [`KvType`] that the backend opens a session with; it must do so for its own. The model must
//! hold 200 positions.

mod adjustments;
mod bench;
mod candidates;
mod rules;

use std::fmt;

use self::bench::{Bench, Violation};
use super::{Backend, KvType, guard};
use crate::{Error, Result};

/// What is known of a backend.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Tokens of the model.
    pub vocab_size: usize,
    /// How far apart logits may be that ought to be equal. 0 asks for the same bits.
    pub tolerance: f32,
    /// A backend of the same model that is known to be right.
    pub reference: Option<&'a dyn Backend>,
}

impl Subject<'_> {
    /// A backend whose results are the same bits whatever shares their batch.
    pub fn exact(vocab_size: usize) -> Self {
        Self { vocab_size, tolerance: 0.0, reference: None }
    }
}

/// How a backend kept the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One for each rule and type of keys and values.
    pub outcomes: Vec<Outcome>,
}

/// How a backend kept one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// How keys and values were stored.
    pub kv_type: KvType,
    /// What is wrong, if anything is.
    pub violation: Option<String>,
}

impl Report {
    /// The rules that were not kept.
    pub fn violations(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.violation.is_some())
    }

    /// Panics with all that is wrong, if anything is.
    #[track_caller]
    pub fn assert_passed(&self) {
        let violations: Vec<String> = self.violations().map(Outcome::to_string).collect();
        assert!(violations.is_empty(), "the backend breaks its contract:\n{}", violations.join("\n"));
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.violation.as_deref().unwrap_or("kept");
        write!(f, "{} ({}): {kept}", self.rule, self.kv_type)
    }
}

/// Checks the contract of [`Backend`] and [`super::Session`].
pub fn check(backend: &dyn Backend, subject: &Subject<'_>) -> Report {
    let mut outcomes = Vec::new();
    for kv_type in KvType::ALL {
        let bench = Bench { backend, subject, kv_type };
        let opened = bench.open().map(drop);
        if kv_type != backend.kv_type() && opened.is_err() {
            continue;
        }
        let rule = "a session opens for the type of the backend";
        outcomes.push(Outcome { rule, kv_type, violation: opened.err().map(|violation| violation.0) });
        outcomes.extend(rules::ALL.iter().map(|&(rule, keeps)| Outcome {
            rule,
            kv_type,
            violation: verdict(backend, || keeps(&bench)).err().map(|violation| violation.0),
        }));
    }
    Report { outcomes }
}

/// What a rule says; a panic of the backend is a violation.
fn verdict(backend: &dyn Backend, rule: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
    guard(|| backend.name().to_owned(), || Ok::<_, Error>(rule()))?
}

#[cfg(test)]
mod tests;
