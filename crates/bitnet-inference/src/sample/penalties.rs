//! Repetition, presence and frequency penalties.

use std::collections::VecDeque;

use super::SamplingOptions;

/// Counts tokens in a window, or in all of prompt and text.
#[derive(Debug, Clone)]
pub(super) struct Penalties {
    pub(super) repetition: f32,
    presence: f32,
    frequency: f32,
    /// How often each token is in the window; empty when no penalty is on.
    pub(super) counts: Vec<u32>,
    window: Option<usize>,
    /// The tokens of the window, the first one first; unused without a window.
    recent: VecDeque<u32>,
}

impl Penalties {
    pub(super) fn new(options: &SamplingOptions, vocab_size: usize) -> Self {
        let SamplingOptions {
            repetition_penalty, presence_penalty, frequency_penalty, repeat_last_n, ..
        } = *options;
        let is_on = repetition_penalty != 1.0 || presence_penalty != 0.0 || frequency_penalty != 0.0;
        Self {
            repetition: repetition_penalty,
            presence: presence_penalty,
            frequency: frequency_penalty,
            counts: if is_on { vec![0; vocab_size] } else { Vec::new() },
            window: repeat_last_n,
            recent: VecDeque::new(),
        }
    }

    /// Counts a token; returns the one that left the window.
    pub(super) fn push(&mut self, id: u32) -> Option<u32> {
        *self.counts.get_mut(id as usize)? += 1;
        let window = self.window?;
        self.recent.push_back(id);
        let is_full = self.recent.len() > window;
        let gone = is_full.then(|| self.recent.pop_front()).flatten()?;
        self.counts[gone as usize] -= 1;
        Some(gone)
    }

    /// What presence and frequency add to the logit of a token.
    ///
    /// Source: the API of `OpenAI`; counted over prompt and text, as llama.cpp does.
    pub(super) fn offset(&self, id: u32) -> f32 {
        match self.counts.get(id as usize) {
            None | Some(0) => 0.0,
            Some(&count) => -(self.presence + self.frequency * count as f32),
        }
    }

    /// Whether presence or frequency add anything.
    pub(super) fn has_offsets(&self) -> bool {
        self.presence != 0.0 || self.frequency != 0.0
    }

    /// Whether a logit may come out larger.
    pub(super) fn may_raise(&self) -> bool {
        self.repetition < 1.0 || self.presence < 0.0 || self.frequency < 0.0
    }
}
