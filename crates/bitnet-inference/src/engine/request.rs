//! What is asked of an engine, and what it answers.

use std::time::Duration;

use crate::Error;
use crate::generate::{Chunk, GenerateOptions, Generation};

/// How a text is to be generated among others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// How each token is chosen, and when to end.
    pub options: GenerateOptions,
    /// Those with a larger one go first; a request gains one for every [`super::AGING`] it waits.
    pub priority: i32,
    /// The text ends when so long has passed since the request.
    pub deadline: Option<Duration>,
}

impl Request {
    /// The request for one of several texts behind the same prompt, counted from 0: where there is a seed, with
    /// `seed + index` modulo 2^64.
    #[must_use]
    pub fn sample(&self, index: usize) -> Self {
        let mut request = self.clone();
        let seed = &mut request.options.sampling.seed;
        *seed = seed.map(|seed| seed.wrapping_add(index as u64));
        request
    }
}

/// What an engine says of a request: chunks, then one of the others.
#[derive(Debug)]
pub enum Event {
    /// A token was generated.
    Chunk(Chunk),
    /// The text is done.
    Done(Box<Generation>),
    /// The request failed. Those beside it go on.
    Failed(Error),
}
