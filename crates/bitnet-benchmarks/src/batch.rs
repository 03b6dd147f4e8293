//! Sequences that are read side by side.

use bitnet_inference::Result;
use bitnet_inference::backend::{Candidate, Choice, Cut, Limits, Page, Session, Traffic, Work};

use crate::subject::Subject;
use crate::test::DECODE_PROMPT;

/// Some sequences of the same length in one session.
pub(crate) struct Batch {
    session: Box<dyn Session>,
    /// Of each sequence.
    pages: Vec<Vec<Page>>,
    /// Tokens of each.
    position: usize,
}

impl Batch {
    /// `len` empty sequences of at most `capacity` tokens each.
    ///
    /// Errors: [`bitnet_inference::Error::OutOfMemory`].
    pub(crate) fn new(subject: &Subject, len: usize, capacity: usize) -> Result<Self> {
        let one = Limits::sequence(capacity);
        let pages = one.pages.saturating_mul(len);
        let limits = Limits { pages, tokens: one.tokens.max(len * DECODE_PROMPT), ..one };
        let session = subject.open(limits)?;
        let of = |sequence: usize| {
            (sequence * one.pages..(sequence + 1) * one.pages).map(|page| Page(page as u32))
        };
        Ok(Self { session, pages: (0..len).map(|sequence| of(sequence).collect()).collect(), position: 0 })
    }

    /// Number of sequences.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Feeds each sequence its part of `ids`, `[sequences, tokens]`, and gives the most probable next token of each.
    pub(crate) fn read(&mut self, ids: &[u32]) -> Result<Vec<u32>> {
        let tokens = ids.len() / self.len();
        let work: Vec<Work<'_>> = ids
            .chunks_exact(tokens)
            .zip(&self.pages)
            .map(|(ids, pages)| Work { ids, position: self.position, pages, outputs: 1 })
            .collect();
        self.session.execute(&work)?;
        self.position += tokens;
        let choices: Vec<Choice<'_>> =
            (0..self.len()).map(|output| Choice { output, cut: Cut::GREEDY }).collect();
        self.session.choose(&choices)?;
        (0..self.len()).map(|choice| Ok(most_probable(self.session.candidates(choice)?))).collect()
    }

    /// What was read from memory so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.session.traffic()
    }
}

/// The first of the largest.
fn most_probable(candidates: &[Candidate]) -> u32 {
    let best = |best: Candidate, next: &Candidate| if next.logit > best.logit { *next } else { best };
    candidates.iter().fold(Candidate { id: 0, logit: f32::NEG_INFINITY }, best).id
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::{Device, ThreadPool};
    use bitnet_inference::backend::cpu::CpuOptions;

    use super::*;
    use crate::Synthetic;

    #[test]
    fn sequences_side_by_side_give_the_tokens_they_give_alone() {
        let pool = Arc::new(ThreadPool::new(2).unwrap());
        let checkpoint = Synthetic::TINY.checkpoint(&pool).unwrap();
        let subject = Subject::new(Device::Cpu, checkpoint, None, pool, &CpuOptions::default()).unwrap();
        let prompts: Vec<u32> = (0..3 * DECODE_PROMPT as u32).map(|i| i * 7919 % 1000).collect();
        let decode = |batch: &mut Batch, prompts: &[u32]| {
            let mut next = vec![batch.read(prompts).unwrap()];
            for _ in 0..5 {
                next.push(batch.read(next.last().unwrap()).unwrap());
            }
            next
        };
        let together = decode(&mut Batch::new(&subject, 3, 9).unwrap(), &prompts);
        for (sequence, prompt) in prompts.chunks_exact(DECODE_PROMPT).enumerate() {
            let alone = decode(&mut Batch::new(&subject, 1, 9).unwrap(), prompt);
            let expected: Vec<u32> = together.iter().map(|step| step[sequence]).collect();
            assert_eq!(alone.concat(), expected);
        }
    }
}
