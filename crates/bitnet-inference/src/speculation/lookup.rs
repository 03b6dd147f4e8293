//! Guesses from what was there before.
//!
//! An index holds, for every run of two to four tokens, where it ended last. As a token comes, its runs are looked up and
//! entered, so that each costs three entries, however long the text is. From then on the place that was found is followed,
//! token by token, as long as it says what comes. What it says is compared with what comes whether it was guessed or not:
//! how often places that have been right for so long go on to be right costs nothing to know.
//! Source: Saxena, "Prompt lookup decoding", 2023, for the idea.

use std::collections::HashMap;

use super::length::Length;
use super::rate::Rate;

/// Tokens that must be the same for a place to be looked at.
const SHORTEST: usize = 2;
/// Tokens by which places are found; a longer match is one that was followed.
const LONGEST: usize = 4;

/// A run of tokens; a short one ends in what is no token.
type Run = [u32; LONGEST];

/// An index of a text, which guesses that it repeats itself.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Behind which token a run ended last.
    ends: HashMap<Run, usize>,
    /// Tokens that were taken in.
    len: usize,
    place: Option<Match>,
    /// By the length of the match: of 2 and 3 tokens, of 4 to 7, and so on.
    rates: [Rate; 5],
    guesses: Vec<u32>,
}

/// A place where the same tokens were.
#[derive(Debug, Clone, Copy)]
struct Match {
    /// Behind them.
    at: usize,
    /// How many.
    len: usize,
}

impl Lookup {
    /// An index of a prompt.
    pub(super) fn new(prompt: &[u32]) -> Self {
        let mut lookup = Self {
            ends: HashMap::new(),
            len: 0,
            place: None,
            rates: [Rate::default(); 5],
            guesses: Vec::new(),
        };
        lookup.take_in(prompt);
        lookup
    }

    /// Guesses what follows `tokens`, which begin with those there were.
    pub(super) fn guess(&mut self, tokens: &[u32], length: Length<'_>) -> &[u32] {
        for &id in &tokens[self.len..] {
            if let Some(found) = self.place {
                self.rates[kind(found.len)].record(tokens[found.at] == id);
            }
            let len = self.len + 1;
            self.take_in(&tokens[..len]);
        }
        self.guesses.clear();
        if let Some(found) = self.place {
            let count = length.best(|guess| self.rate(found.len + guess), 0.0);
            // A text that repeats itself at once is repeated on.
            let repeated = tokens[found.at..].iter().cycle();
            self.guesses.extend(repeated.take(count));
        }
        &self.guesses
    }

    /// Takes in the tokens that are new.
    fn take_in(&mut self, tokens: &[u32]) {
        for last in self.len..tokens.len() {
            let mut found = None;
            for len in SHORTEST..=LONGEST.min(last + 1) {
                let mut run = [u32::MAX; LONGEST];
                run[..len].copy_from_slice(&tokens[last + 1 - len..=last]);
                if let Some(at) = self.ends.insert(run, last + 1) {
                    found = Some(Match { at, len });
                }
            }
            let followed = self.place.filter(|place| tokens[place.at] == tokens[last]);
            let followed = followed.map(|place| Match { at: place.at + 1, len: place.len + 1 });
            self.place = followed.filter(|place| place.len > LONGEST).or(found);
        }
        self.len = tokens.len();
    }

    /// How often a place that was right for `len` tokens goes on to be: nothing is known of a length at first, and then
    /// it is as good as the length below.
    fn rate(&self, len: usize) -> f64 {
        self.rates[..=kind(len)].iter().fold(0.5, |before, rate| rate.share(before))
    }
}

fn kind(len: usize) -> usize {
    (len.ilog2() as usize - 1).min(4)
}
