//! Guesses of a smaller model.

use std::sync::Arc;
use std::time::Instant;

use super::length::Length;
use super::rate::Rate;
use crate::backend::{Candidate, Cut, Sequence};
use crate::{LoadedModel, Result};

/// Weight of the latest time of a guess.
const WEIGHT: f64 = 0.25;

/// A model that decodes greedily in front of another.
#[derive(Debug)]
pub(crate) struct Draft {
    model: Arc<LoadedModel>,
    /// Begun with the first guesses: a text that waits for its turn takes no memory.
    reader: Option<Reader>,
    positions: usize,
    /// Tokens of the model it guesses for.
    vocab_size: u32,
    /// The last guesses, and how many tokens were in front of them.
    guesses: Vec<u32>,
    guessed_at: usize,
    rate: Rate,
    /// Seconds of a guess, once there was one.
    seconds: Option<f64>,
    has_failed: bool,
}

/// The text as the draft reads it.
#[derive(Debug)]
struct Reader {
    sequence: Sequence,
    /// What it holds.
    fed: Vec<u32>,
}

impl Draft {
    /// Guesses of `draft` for a text of at most `positions` tokens, of a model with `vocab_size` of them.
    pub(super) fn new(draft: &Arc<LoadedModel>, vocab_size: usize, positions: usize) -> Self {
        Self {
            model: Arc::clone(draft),
            reader: None,
            positions: positions.min(draft.config().context_length),
            vocab_size: vocab_size as u32,
            guesses: Vec::new(),
            guessed_at: 0,
            rate: Rate::default(),
            seconds: None,
            has_failed: false,
        }
    }

    /// Goes on to another text.
    pub(super) fn begin(&mut self) {
        self.guesses.clear();
        self.guessed_at = 0;
        self.rate.forget();
    }

    /// Guesses what follows `tokens`. A draft that fails guesses no more: the text does without.
    pub(super) fn guess(&mut self, tokens: &[u32], length: Length<'_>) -> &[u32] {
        self.learn(tokens);
        self.guesses.clear();
        self.guessed_at = tokens.len();
        let room = (self.positions + 1).saturating_sub(tokens.len());
        let rate = self.rate.share(0.5);
        let count = length.at_most(room).best(|_| rate, self.seconds.unwrap_or(0.0));
        if count == 0 || self.has_failed {
            self.rate.forget();
        } else if let Err(error) = self.decode(tokens, count) {
            tracing::warn!(%error, "the draft model fails, and is asked no more");
            self.has_failed = true;
            self.guesses.clear();
        }
        &self.guesses
    }

    /// Sees what became of the last guesses.
    fn learn(&mut self, tokens: &[u32]) {
        for (guess, token) in self.guesses.iter().zip(&tokens[self.guessed_at..]) {
            self.rate.record(guess == token);
            if guess != token {
                break;
            }
        }
    }

    /// Decodes `count` tokens behind `tokens`; none while a long prompt is being read.
    fn decode(&mut self, tokens: &[u32], count: usize) -> Result<()> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(Reader::new(self.model.backend().start(self.positions)?)),
        };
        if !reader.read(tokens)? {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            let id = most_probable(reader.sequence.candidates(&Cut::GREEDY)?);
            if id >= self.vocab_size {
                break;
            }
            self.guesses.push(id);
            if self.guesses.len() == count {
                break;
            }
            reader.feed(&[id], true)?;
        }
        let seconds = started.elapsed().as_secs_f64() / self.guesses.len().max(1) as f64;
        let mean = self.seconds.get_or_insert(seconds);
        *mean += WEIGHT * (seconds - *mean);
        Ok(())
    }
}

impl Reader {
    fn new(sequence: Sequence) -> Self {
        Self { sequence, fed: Vec::new() }
    }

    /// Holds `tokens` and nothing else, and has the output of the last one; false when there is more to read than a chunk.
    fn read(&mut self, tokens: &[u32]) -> Result<bool> {
        let common = self.fed.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The last token is fed in any case, for its output.
        let kept = common.min(tokens.len() - 1);
        self.sequence.truncate(kept);
        self.fed.truncate(kept);
        let pending = &tokens[kept..];
        let chunk = pending.len().min(self.sequence.chunk());
        let is_all = chunk == pending.len();
        self.feed(&pending[..chunk], is_all)?;
        Ok(is_all)
    }

    fn feed(&mut self, ids: &[u32], is_asked: bool) -> Result<()> {
        self.sequence.feed(ids, usize::from(is_asked))?;
        self.fed.extend_from_slice(ids);
        Ok(())
    }
}

/// The first of the largest.
fn most_probable(candidates: &[Candidate]) -> u32 {
    let best = candidates.iter().reduce(|best, next| if next.logit > best.logit { next } else { best });
    best.map_or(0, |best| best.id)
}

#[cfg(test)]
mod tests {
    use super::super::{Place, StepTimes};
    use super::*;
    use crate::LoadOptions;

    #[test]
    fn the_next_text_is_read_from_where_it_differs() {
        let model = LoadedModel::embedded(&LoadOptions::default()).unwrap();
        let times = StepTimes::default();
        let length = Length { place: Place { most: 3, beside: 0, times: &times }, fixed: Some(3) };
        let draft = || Draft::new(&model, model.config().vocab_size, 256);
        let tokens: Vec<u32> = (0..160).map(|i| i * 37 % 2000).collect();
        let read_bytes =
            |draft: &Draft| draft.reader.as_ref().map_or(0, |reader| reader.sequence.traffic().kv_bytes);

        let mut kept = draft();
        kept.guess(&tokens[..150], length);
        let before = read_bytes(&kept);
        kept.begin();
        let guesses = kept.guess(&tokens[..140], length).to_vec();

        let mut new = draft();
        assert_eq!(guesses, new.guess(&tokens[..140], length));
        assert_eq!(guesses.len(), 3);
        // Three tokens rather than 142, of which those of a prompt share what they read.
        let (again, all) = (read_bytes(&kept) - before, read_bytes(&new));
        assert!(3 * again < all, "{again} of {all}");
    }
}
