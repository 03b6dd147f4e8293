//! In which order sequences are learnt.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// How far a run has come in its data: all that is needed to go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Times that all sequences have been learnt.
    pub epoch: u64,
    /// Sequences of the present epoch that have been.
    pub sequence: u64,
}

/// The order of the sequences of an epoch: a permutation that follows from seed, epoch and number alone, the same on every
/// machine.
///
/// Fisher and Yates' shuffle, from the last place to the second, by the 64-bit numbers of a stream of `ChaCha8` whose key
/// is seed and epoch, each as eight bytes, the low one first, and then zeros. A place below `n` is the next number modulo
/// `n`, of those below the largest multiple of `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    epoch: u64,
    sequences: Vec<usize>,
}

impl Order {
    /// The order of `sequences` sequences in an epoch.
    pub fn new(seed: u64, epoch: u64, sequences: usize) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&epoch.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        let mut order: Vec<usize> = (0..sequences).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, below(&mut random, place as u64 + 1) as usize);
        }
        Self { epoch, sequences: order }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sequences in their order.
    pub fn sequences(&self) -> &[usize] {
        &self.sequences
    }
}

/// A number below `bound`, all as likely.
fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    let fair = u64::MAX - u64::MAX % bound;
    loop {
        let number = random.next_u64();
        if number < fair {
            return number % bound;
        }
    }
}
