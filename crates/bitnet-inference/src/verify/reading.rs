//! How well a model reads plain English, as it is and with each mistake undone.

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_quant::Packing;

use super::{Mistake, Status, Verification};
use crate::backend::Backend;
use crate::backend::cpu::{CpuBackend, CpuOptions};
use crate::model::Model;
use crate::perplexity::negative_log_likelihood;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Everyday English on everyday things.
pub(crate) const TEXT: &str = "\
The old man walked down to the river in the morning, as he had done every day for many years. The water was cold and \
clear, and he could see the stones at the bottom. He sat down under a tree and looked at the sky. It was going to be a \
beautiful day. In the town the people were already at work, and the children were on their way to school. One of them, a \
small boy with a red hat, stopped and asked him what he was doing. \"I am waiting for my friend,\" the old man said. \
\"He has been away for a long time, but he told me that he would come back before the end of the summer.\" The boy sat \
down next to him, and together they waited. After a while they heard the sound of a boat on the water.";

/// Tokens that are read at most.
const TOKENS: usize = 256;

/// Nats per token by which a model must read better with a mistake undone; less is chance.
const MARGIN: f64 = 0.05;

pub(super) fn check(
    found: &mut Verification,
    model: &Model,
    tokenizer: &Tokenizer,
    pool: &Arc<ThreadPool>,
) -> Result<()> {
    let ids = ids(model, tokenizer)?;
    if ids.len() < 2 {
        found.add("reading", Status::Warning, "not tried: the tokenizer makes no tokens of a text");
        return Ok(());
    }
    let guess = (model.config.vocab_size as f64).ln();
    let nll = nll(model.clone(), &ids, pool)?;
    let fact = format!("{nll:.2} nats per token of plain English; a blind guess has {guess:.2}");
    let status = if nll < guess { Status::Ok } else { Status::Fail };
    found.add("reading", status, fact);
    let mut without = Vec::new();
    for mistake in Mistake::ALL {
        if let Some(other) = mistake.undo(model, pool)? {
            without.push((mistake, self::nll(other, &ids, pool)?));
        }
    }
    // Of nonsense, other nonsense may be the better; the mistake is the one without which it reads best.
    let best = without.iter().map(|(_, nll)| *nll).fold(nll - MARGIN, f64::min);
    for (mistake, without) in without {
        let fact = format!("{without:.2} nats with {}", mistake.remedy());
        let (status, fact) = if without == best {
            (Status::Fail, format!("reads best so: {fact}"))
        } else if without < nll {
            (Status::Warning, format!("reads better so: {fact}"))
        } else {
            (Status::Ok, fact)
        };
        found.add(mistake.name(), status, fact);
    }
    Ok(())
}

/// The ids of the text, as many as are read.
pub(super) fn ids(model: &Model, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let mut ids = tokenizer.encode(TEXT, true)?;
    ids.truncate(TOKENS.min(model.config.context_length));
    let vocab_size = model.config.vocab_size;
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&id) => Err(Error::TokenOutOfRange { id, vocab_size }),
        None => Ok(ids),
    }
}

/// Calls `visit(position, logits)` behind every token.
pub(super) fn visit_logits(
    model: Model,
    ids: &[u32],
    pool: &Arc<ThreadPool>,
    mut visit: impl FnMut(usize, &[f32]),
) -> Result<()> {
    let vocab_size = model.config.vocab_size;
    // Measuring which packing is faster takes longer than the text.
    let options = CpuOptions { packing: Some(Packing::Bits2), ..CpuOptions::default() };
    let backend = CpuBackend::new(model, Arc::clone(pool), &options)?;
    let mut sequence = backend.start(ids.len())?;
    let chunk = sequence.chunk().min(64);
    for (index, ids) in ids.chunks(chunk).enumerate() {
        sequence.feed(ids, ids.len())?;
        for (offset, logits) in sequence.logits(ids.len())?.chunks_exact(vocab_size).enumerate() {
            visit(index * chunk + offset, logits);
        }
    }
    Ok(())
}

/// Mean negative log-likelihood of all tokens but the first; infinite where the logits are no numbers.
fn nll(model: Model, ids: &[u32], pool: &Arc<ThreadPool>) -> Result<f64> {
    let (inputs, targets) = (&ids[..ids.len() - 1], &ids[1..]);
    let mut sum = 0.0;
    visit_logits(model, inputs, pool, |position, logits| {
        sum += negative_log_likelihood(logits, targets[position]).unwrap_or(f64::INFINITY);
    })?;
    Ok(sum / targets.len() as f64)
}
