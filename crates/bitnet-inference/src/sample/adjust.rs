//! What happens to single logits before tokens are compared: penalties and biases.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SamplingOptions;
use super::dry::Dry;
use super::penalties::Penalties;
use crate::backend::{Adjustment, TokenMask};
use crate::tokenizer::TokenBytes;

/// Keeps the adjustment of every logit up to date with the tokens that were there.
#[derive(Debug, Clone)]
pub(super) struct Adjuster {
    penalties: Penalties,
    dry: Option<Dry>,
    bias: BTreeMap<u32, f32>,
    /// Bias and penalties that are added; empty when there are none.
    offsets: Vec<f32>,
}

impl Adjuster {
    /// `bytes` are needed where DRY is on.
    pub(super) fn new(options: &SamplingOptions, vocab_size: usize, bytes: Option<Arc<TokenBytes>>) -> Self {
        let penalties = Penalties::new(options, vocab_size);
        let dry = bytes.filter(|_| options.dry.multiplier > 0.0).map(|bytes| Dry::new(&options.dry, bytes));
        let bias = options.logit_bias.clone();
        let has_offsets = penalties.has_offsets() || dry.is_some() || !bias.is_empty();
        let mut offsets = if has_offsets { vec![0.0; vocab_size] } else { Vec::new() };
        for (&id, &bias) in &bias {
            offsets[id as usize] = bias;
        }
        Self { penalties, dry, bias, offsets }
    }

    /// Whether it stays as it is, whatever tokens come.
    pub(super) fn is_fixed(&self) -> bool {
        self.dry.is_none() && self.penalties.counts.is_empty()
    }

    /// Takes the next tokens of prompt or text.
    pub(super) fn observe(&mut self, ids: &[u32]) {
        let mut dry = self.dry.take();
        for (id, _) in dry.iter().flat_map(Dry::penalties) {
            self.restore(id);
        }
        for &id in ids {
            let gone = self.penalties.push(id);
            self.restore(id);
            if let Some(gone) = gone {
                self.restore(gone);
            }
            if let Some(dry) = &mut dry {
                dry.push(id);
            }
        }
        if let Some(dry) = &mut dry {
            dry.update();
            for (id, penalty) in dry.penalties() {
                self.offsets[id as usize] -= penalty;
            }
        }
        self.dry = dry;
    }

    /// Sets the offset of a token to what it is without DRY.
    fn restore(&mut self, id: u32) {
        if let Some(offset) = self.offsets.get_mut(id as usize) {
            *offset = self.bias.get(&id).copied().unwrap_or(0.0) + self.penalties.offset(id);
        }
    }

    /// What happens to the logits of the next token.
    pub(super) fn adjustment<'a>(&'a self, allowed: Option<&'a TokenMask>) -> Adjustment<'a> {
        Adjustment {
            repetition_penalty: self.penalties.repetition,
            counts: &self.penalties.counts,
            offsets: &self.offsets,
            allowed,
            may_raise: self.penalties.may_raise() || self.bias.values().any(|&bias| bias > 0.0),
        }
    }

    /// How many of the tokens that are allowed are banned.
    pub(super) fn banned(&self, allowed: &TokenMask) -> usize {
        let is_banned =
            |(id, bias): &(&u32, &f32)| **bias == f32::NEG_INFINITY && allowed.contains(**id as usize);
        self.bias.iter().filter(is_banned).count()
    }
}
