//! From the outputs of the blocks to logits: all of them, or those that a sampler can choose.

use std::ops::Range;
use std::sync::Arc;

use bitnet_quant::CompactRows;

use super::CpuSession;
use super::choices::Search;
use super::compute::{Compute, Input};
use super::prepared::{Head, Prepared};
use super::scratch::Scratch;
use crate::backend::{Candidate, Choice, Cut};
use crate::model::FloatLinear;
use crate::{Error, Result};

/// A cut that keeps a larger share of the vocabulary is made from all logits.
pub(super) const LARGEST_SHARE: usize = 8;

impl CpuSession {
    /// Computes the logits of some outputs.
    pub(super) fn all_logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        self.model.ending()?;
        let width = self.model.config.hidden_size;
        let x = &self.scratch.outputs[outputs.start * width..outputs.end * width];
        self.scratch.picked.clear();
        self.scratch.picked.extend_from_slice(x);
        self.picked_logits(outputs.len())
    }

    /// Finds what may follow some outputs, each under its cut.
    pub(super) fn choose_all(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        let model = Arc::clone(&self.model);
        self.scratch.choices.begin(choices.len(), model.config.vocab_size);
        if let Head::Float(head, Some(compact)) = &model.ending()?.head {
            self.choose_by_scores(&model, head, compact, choices);
        }
        self.choose_by_logits(choices)
    }

    /// Answers the choices that keep little of the vocabulary.
    fn choose_by_scores(
        &mut self,
        model: &Prepared,
        head: &FloatLinear,
        compact: &CompactRows,
        choices: &[Choice<'_>],
    ) {
        let is_small = |choice: &&Choice<'_>| is_small(&choice.cut, model.config.vocab_size);
        let small = choices.iter().filter(is_small).count();
        if small == 0 {
            return;
        }
        let Scratch { outputs, picked, choices: found, .. } = &mut self.scratch;
        picked.clear();
        for choice in choices.iter().filter(is_small) {
            picked.extend_from_slice(row(outputs, choice.output, model.config.hidden_size));
        }
        let Compute { pool, ternary, .. } = &self.compute;
        found.score(pool, ternary, compact, picked, small);
        let search = Search { compute: &self.compute, head: &head.weight, compact };
        found.search(&search, picked, choices, is_small);
        let row_bytes = head.weight.size_bytes() / head.weight.rows();
        for answer in found.answers().filter(|answer| answer.is_found()) {
            let looked_at = answer.refined() * compact.refined_bytes() + answer.rescored() * row_bytes;
            self.traffic.weight_bytes += looked_at as u64;
            self.traffic.scored_rows += compact.rows() as u64;
            self.traffic.rescored_rows += answer.rescored() as u64;
        }
        self.traffic.weight_bytes += compact.size_bytes() as u64;
    }

    /// Answers the choices that have no answer yet from all of their logits.
    fn choose_by_logits(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        let Prepared { config, .. } = &*self.model;
        let vocab_size = config.vocab_size;
        let Scratch { outputs, picked, choices: found, .. } = &mut self.scratch;
        picked.clear();
        for (choice, answer) in choices.iter().zip(found.answers()) {
            if !answer.is_found() {
                picked.extend_from_slice(row(outputs, choice.output, config.hidden_size));
            }
        }
        let count = picked.len() / config.hidden_size;
        if count == 0 {
            return Ok(());
        }
        self.picked_logits(count)?;
        let Scratch { logits, choices: found, .. } = &mut self.scratch;
        let open = found.answers_mut().filter(|answer| !answer.is_found());
        for (answer, logits) in open.zip(logits.chunks_exact(vocab_size)) {
            answer.take_all(logits);
        }
        Ok(())
    }

    /// Computes the logits of the first `count` picked outputs.
    fn picked_logits(&mut self, count: usize) -> Result<&[f32]> {
        let config = &self.model.config;
        let Scratch { picked, quantized, logits, .. } = &mut self.scratch;
        let needed = count * config.vocab_size;
        if logits.len() < needed {
            logits.resize(needed, 0.0);
        }
        let logits = &mut logits[..needed];
        let bytes = match &self.model.ending()?.head {
            Head::Linear(head) => {
                let input = Input { x: picked, norm: None, eps: config.rms_norm_eps };
                self.compute.linears(input, &mut [], quantized, [(head, &mut *logits)])?;
                head.weight_bytes()
            }
            Head::Float(head, _) => {
                self.compute.float_linear(head, picked, logits);
                head.weight.size_bytes()
            }
        };
        self.traffic.weight_bytes += bytes as u64;
        Ok(logits)
    }

    /// What was found for a choice.
    pub(super) fn found(&self, choice: usize) -> Result<&[Candidate]> {
        let candidates = self.scratch.choices.candidates(choice);
        if candidates.iter().fold(true, |finite, candidate| finite & candidate.logit.is_finite()) {
            return Ok(candidates);
        }
        Err(Error::NotFinite { what: "a logit".to_owned() })
    }
}

/// Whether scores are worth their while: not where the cut keeps much.
fn is_small(cut: &Cut<'_>, vocab_size: usize) -> bool {
    let is_cut = cut.below_best.is_finite() || cut.top_k < usize::MAX;
    is_cut && seeds(cut) <= vocab_size / LARGEST_SHARE
}

/// Rows whose exact logits are the level that others must reach.
pub(super) fn seeds(cut: &Cut<'_>) -> usize {
    if cut.top_k == usize::MAX { 1 } else { cut.top_k }
}

fn row(x: &[f32], index: usize, width: usize) -> &[f32] {
    &x[index * width..(index + 1) * width]
}
