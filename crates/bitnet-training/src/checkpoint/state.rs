//! What a run is at, beside its tensors.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Fingerprint;
use crate::data::Position;

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    /// Steps that are done.
    pub step: u64,
    /// How far it has come in its data.
    pub position: Position,
    /// Loss on the data of evaluation, nats per token: the best checkpoint has the least.
    pub eval_loss: Option<f64>,
    /// Its random numbers, by what they are for.
    pub random: BTreeMap<String, RandomState>,
    /// What else it must know, as its trainer writes it.
    pub config: Value,
    /// What a run must have in common to go on from here.
    pub fingerprint: Fingerprint,
}

/// Where a sequence of random numbers is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomState {
    seed: [u8; 32],
    stream: u64,
    /// Words of 32 bits that were taken; no run takes 2^64.
    words: u64,
}

impl RandomState {
    /// The generator that gives what the saved one would have given next.
    pub fn generator(&self) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::from_seed(self.seed);
        random.set_stream(self.stream);
        random.set_word_pos(self.words.into());
        random
    }
}

impl From<&ChaCha8Rng> for RandomState {
    fn from(random: &ChaCha8Rng) -> Self {
        Self { seed: random.get_seed(), stream: random.get_stream(), words: random.get_word_pos() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::Rng;

    use super::*;

    #[test]
    fn random_numbers_go_on() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        random.set_stream(3);
        for taken in 0..40 {
            let json = serde_json::to_string(&RandomState::from(&random)).unwrap();
            let saved: RandomState = serde_json::from_str(&json).unwrap();
            assert_eq!(saved.generator().next_u64(), random.clone().next_u64(), "behind {taken}");
            random.next_u32();
        }
    }
}
