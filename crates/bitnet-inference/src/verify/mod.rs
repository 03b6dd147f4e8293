//! Whether a checkpoint is what it should be: its structure, its numbers, and how it reads plain English.
//!
//! Broken conversions load and run; they only write nonsense. What gives them away without a reference is that the model
//! gets better when the mistake is made undone: see [`Mistake`].

mod comparison;
mod mistakes;
mod numbers;
pub(crate) mod reading;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bitnet_core::ThreadPool;
use serde::Serialize;

pub use self::mistakes::Mistake;
pub use self::numbers::TensorStatistics;
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Checkpoint, Result};

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Unusual.
    Warning,
    /// Wrong.
    Fail,
}

impl Status {
    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub status: Status,
    /// What was found, in one line.
    pub fact: String,
}

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// The model.
    pub model: String,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// Every ternary matrix.
    pub tensors: Vec<TensorStatistics>,
}

impl Verification {
    /// The worst status.
    pub fn status(&self) -> Status {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
    }

    fn add(&mut self, name: &'static str, status: Status, fact: impl Into<String>) {
        self.checks.push(Check { name, status, fact: fact.into() });
    }
}

/// Looks at a checkpoint, and compares it with `against`, another form of the same model.
///
/// A checkpoint that does not load is a check that failed, not an error.
///
/// Errors: those of loading `against`, and those of running the models.
pub fn verify(
    checkpoint: &Checkpoint,
    against: Option<&Checkpoint>,
    pool: &Arc<ThreadPool>,
) -> Result<Verification> {
    let model = checkpoint.path().display().to_string();
    let mut found = Verification { model, checks: Vec::new(), tensors: Vec::new() };
    let loaded = Model::load(checkpoint, pool).and_then(|model| Ok((model, Tokenizer::read(checkpoint)?)));
    let (model, tokenizer) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            found.add("structure", Status::Fail, error.to_string());
            return Ok(found);
        }
    };
    structure(&mut found, checkpoint, &model, tokenizer.as_ref());
    numbers::check(&mut found, &model);
    match &tokenizer {
        None => found.add("reading", Status::Warning, "not tried: the checkpoint has no tokenizer"),
        Some(tokenizer) => reading::check(&mut found, &model, tokenizer, pool)?,
    }
    if let Some(other) = against {
        comparison::check(&mut found, &model, tokenizer.as_ref(), other, pool)?;
    }
    Ok(found)
}

fn structure(
    found: &mut Verification,
    checkpoint: &Checkpoint,
    model: &Model,
    tokenizer: Option<&Tokenizer>,
) {
    let tensors = checkpoint.tensor_names().count();
    let fact = format!(
        "{} tensors, {} of them ternary, of {} blocks; {}",
        tensors,
        model.ternary_linears().count(),
        model.blocks.len(),
        checkpoint.format()
    );
    found.add("structure", Status::Ok, fact);
    for decision in checkpoint.decisions() {
        let status = if decision.is_guess { Status::Warning } else { Status::Ok };
        found.add("decided", status, decision.to_string());
    }
    let rows = model.config.vocab_size;
    match tokenizer.map(Tokenizer::vocab_size) {
        None => {}
        Some(tokens) if tokens > rows => {
            found.add("tokenizer", Status::Fail, format!("has {tokens} tokens, the embedding {rows} rows"));
        }
        Some(tokens) => {
            found.add("tokenizer", Status::Ok, format!("{tokens} tokens, {rows} rows in the embedding"));
        }
    }
    if model.config.eos.is_empty() {
        found.add(
            "end of text",
            Status::Warning,
            "no token ends a text: generation stops at max_tokens only",
        );
    }
}
