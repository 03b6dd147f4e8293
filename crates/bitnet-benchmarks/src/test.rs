//! What is measured: a prompt read, or a text decoded, token by token.

use std::fmt;
use std::time::Instant;

use bitnet_inference::backend::{Cut, Sequence, Traffic};
use bitnet_inference::{Error, Result};

use crate::batch::Batch;
use crate::subject::Subject;
use crate::synthetic::random;

/// Tokens in front of a decoded text.
pub const DECODE_PROMPT: usize = 4;
/// Tokens decoded before the clock runs.
const DECODE_WARM_UP: usize = 8;

/// A test, in the terms and by the names of llama-bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// `pp<N>`: reads a prompt of `N` random tokens and finds the next one.
    Prefill(usize),
    /// `tg<N>`, or `tg<N> x<B>`: decodes `N` tokens of each of `B` sequences, greedily and one by one, behind prompts of
    /// [`DECODE_PROMPT`]. Its tokens are those of all sequences.
    Decode {
        /// Tokens of a sequence.
        tokens: usize,
        /// Sequences at once.
        batch: usize,
    },
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefill(tokens) => write!(f, "pp{tokens}"),
            Self::Decode { tokens, batch: 1 } => write!(f, "tg{tokens}"),
            Self::Decode { tokens, batch } => write!(f, "tg{tokens} x{batch}"),
        }
    }
}

/// What a test took.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// The test.
    pub test: Test,
    /// Of each repetition, in ascending order.
    pub tokens_per_s: Vec<f64>,
    /// Tokens of all repetitions.
    pub tokens: usize,
    /// What all repetitions read.
    pub traffic: Traffic,
}

impl Test {
    /// Tokens whose time is taken.
    pub fn tokens(self) -> usize {
        match self {
            Self::Prefill(tokens) => tokens,
            Self::Decode { tokens, batch } => tokens.saturating_mul(batch),
        }
    }

    /// Sequences at once.
    pub fn batch(self) -> usize {
        match self {
            Self::Prefill(_) => 1,
            Self::Decode { batch, .. } => batch,
        }
    }

    /// Positions of the context that a sequence needs.
    pub fn positions(self) -> usize {
        match self {
            Self::Prefill(tokens) => tokens,
            Self::Decode { tokens, .. } => tokens.saturating_add(DECODE_PROMPT),
        }
    }

    /// Runs the test once to warm up (of a text, a few tokens) and then `repetitions` times. `check` is called between
    /// the steps and may end it; `between` in front of every repetition and behind the last.
    ///
    /// Errors: [`Error::ContextLength`] when the test needs more positions than the model has, what `check` returns.
    pub fn run<E: From<Error>>(
        self,
        subject: &Subject,
        repetitions: usize,
        mut check: impl FnMut() -> Result<(), E>,
        mut between: impl FnMut() -> Result<(), E>,
    ) -> Result<Measurement, E> {
        let (prompt_tokens, context_length) = (self.positions(), subject.context_length);
        if prompt_tokens > context_length {
            return Err(Error::ContextLength { prompt_tokens, context_length }.into());
        }
        let warm_up = match self {
            Self::Prefill(_) => self,
            Self::Decode { tokens, batch } => Self::Decode { tokens: tokens.min(DECODE_WARM_UP), batch },
        };
        warm_up.run_once(subject, 0, &mut check)?;
        let mut measured =
            Measurement { test: self, tokens_per_s: Vec::new(), tokens: 0, traffic: Traffic::default() };
        for repetition in 0..repetitions {
            between()?;
            let (seconds, traffic) = self.run_once(subject, repetition as u64, &mut check)?;
            measured.tokens_per_s.push(self.tokens() as f64 / seconds);
            measured.tokens += self.tokens();
            measured.traffic = measured.traffic + traffic;
        }
        between()?;
        measured.tokens_per_s.sort_by(f64::total_cmp);
        Ok(measured)
    }

    /// Seconds, and what was read.
    fn run_once<E: From<Error>>(
        self,
        subject: &Subject,
        seed: u64,
        check: &mut impl FnMut() -> Result<(), E>,
    ) -> Result<(f64, Traffic), E> {
        let token = |at| (random::number(seed, at) % subject.vocab_size as u64) as u32;
        match self {
            Self::Prefill(tokens) => {
                let mut sequence = subject.start(tokens)?;
                let ids: Vec<u32> = (0..tokens as u64).map(token).collect();
                let start = Instant::now();
                read(&mut sequence, &ids, check)?;
                Ok((start.elapsed().as_secs_f64(), sequence.traffic()))
            }
            Self::Decode { tokens, batch } => {
                let mut batch = Batch::new(subject, batch, self.positions())?;
                let ids: Vec<u32> = (0..(batch.len() * DECODE_PROMPT) as u64).map(token).collect();
                check()?;
                let mut next = batch.read(&ids)?;
                let before = batch.traffic();
                let start = Instant::now();
                for _ in 0..tokens {
                    check()?;
                    next = batch.read(&next)?;
                }
                Ok((start.elapsed().as_secs_f64(), batch.traffic() - before))
            }
        }
    }
}

/// Feeds `ids` and finds the most probable next token.
fn read<E: From<Error>>(
    sequence: &mut Sequence,
    ids: &[u32],
    check: &mut impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut pending = ids.len();
    for ids in ids.chunks(sequence.chunk()) {
        check()?;
        pending -= ids.len();
        sequence.feed(ids, usize::from(pending == 0))?;
    }
    sequence.candidates(&Cut::GREEDY)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::{Device, ThreadPool};
    use bitnet_inference::backend::cpu::CpuOptions;

    use super::*;
    use crate::Synthetic;

    fn subject() -> Subject {
        let pool = Arc::new(ThreadPool::new(2).unwrap());
        let checkpoint = Synthetic::TINY.checkpoint(&pool).unwrap();
        Subject::new(Device::Cpu, checkpoint, None, pool, &CpuOptions::default()).unwrap()
    }

    #[test]
    fn names_are_those_of_llama_bench() {
        assert_eq!(Test::Prefill(512).to_string(), "pp512");
        assert_eq!(Test::Decode { tokens: 128, batch: 1 }.to_string(), "tg128");
        assert_eq!(Test::Decode { tokens: 128, batch: 32 }.to_string(), "tg128 x32");
    }

    #[test]
    fn every_repetition_counts_and_the_warm_up_does_not() {
        let subject = subject();
        let ok = || Ok::<(), Error>(());
        for test in
            [Test::Prefill(200), Test::Decode { tokens: 12, batch: 1 }, Test::Decode { tokens: 4, batch: 3 }]
        {
            let mut calls = 0;
            let mut count = || {
                calls += 1;
                Ok(())
            };
            let one = test.run(&subject, 1, ok, &mut count).unwrap();
            let three = test.run(&subject, 3, ok, &mut count).unwrap();
            assert_eq!(calls, 2 + 4);
            assert_eq!((one.tokens_per_s.len(), one.tokens), (1, test.tokens()));
            assert_eq!((three.tokens_per_s.len(), three.tokens), (3, 3 * test.tokens()));
            assert!(three.tokens_per_s.is_sorted() && three.tokens_per_s[0] > 0.0);
            assert!(three.traffic.weight_bytes > one.traffic.weight_bytes);
        }
    }

    #[test]
    fn a_check_that_fails_ends_the_test() {
        let mut left = 3;
        let check = || {
            left -= 1;
            if left == 0 { Err(Error::EmptyPrompt) } else { Ok(()) }
        };
        let stopped = Test::Decode { tokens: 12, batch: 1 }.run(&subject(), 1, check, || Ok(()));
        assert!(matches!(stopped, Err(Error::EmptyPrompt)));
    }

    #[test]
    fn more_positions_than_the_context_are_refused() {
        let run = |test: Test| test.run(&subject(), 1, || Ok::<(), Error>(()), || Ok(()));
        assert!(matches!(run(Test::Prefill(4097)), Err(Error::ContextLength { .. })));
        assert!(matches!(run(Test::Decode { tokens: 4093, batch: 1 }), Err(Error::ContextLength { .. })));
    }
}
