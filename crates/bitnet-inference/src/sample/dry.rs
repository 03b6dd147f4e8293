//! DRY: what would go on with a repetition is penalised, the more the longer it already is.

use std::sync::Arc;

use super::DryOptions;
use super::breakers::Breakers;
use crate::tokenizer::TokenBytes;

/// The largest penalty: beyond any logit, and still finite.
const LARGEST: f32 = 1e30;

/// Penalises each token that would extend the longest repetition by
///
/// `multiplier * base^(length - allowed_length)`,
///
/// with `length` the tokens at the end of the text that were followed by it before, from `allowed_length`. No repetition
/// goes across a breaker, and a token that holds a whole one is never penalised.
///
/// Source: <https://github.com/oobabooga/text-generation-webui/pull/5677>; penalised breakers as in llama.cpp.
#[derive(Debug, Clone)]
pub(super) struct Dry {
    options: DryOptions,
    bytes: Arc<TokenBytes>,
    breakers: Breakers,
    /// All of prompt and text.
    text: Vec<u32>,
    /// Tokens since the last breaker.
    unbroken: usize,
    /// Buffer: for each token of the window, how many up to it are also at the end of the text.
    matches: Vec<usize>,
    /// The longest repetition by the token that extends it.
    found: Vec<(u32, usize)>,
}

impl Dry {
    pub(super) fn new(options: &DryOptions, bytes: Arc<TokenBytes>) -> Self {
        Self {
            breakers: Breakers::new(&options.sequence_breakers),
            options: options.clone(),
            bytes,
            text: Vec::new(),
            unbroken: 0,
            matches: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes the next token of prompt or text.
    pub(super) fn push(&mut self, id: u32) {
        self.text.push(id);
        self.unbroken = if self.breakers.push(self.bytes.get(id)) { 0 } else { self.unbroken + 1 };
    }

    /// The tokens that are penalised now, as of the last [`Self::update`].
    pub(super) fn penalties(&self) -> impl Iterator<Item = (u32, f32)> {
        let DryOptions { multiplier, base, allowed_length, .. } = self.options;
        self.found.iter().map(move |&(id, length)| {
            let exponent = (length - allowed_length) as f32;
            (id, (multiplier * base.powf(exponent)).min(LARGEST))
        })
    }

    /// Looks for repetitions at the end of the text.
    pub(super) fn update(&mut self) {
        let Self { options, text, matches, found, .. } = self;
        let first = options.penalty_last_n.map_or(0, |last_n| text.len().saturating_sub(last_n));
        let window = &text[first..];
        found.clear();
        if self.unbroken < options.allowed_length {
            return;
        }
        suffix_matches(window, matches);
        let lengths = matches.iter().map(|&length| length.min(self.unbroken));
        let extended = window.iter().skip(1).copied().zip(lengths);
        found.extend(extended.filter(|&(_, length)| length >= options.allowed_length));
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        found.dedup_by_key(|(id, _)| *id);
        found.retain(|&(id, _)| !self.breakers.is_in(self.bytes.get(id)));
    }
}

/// For each token but the last: how many tokens up to it are also the last tokens. In linear time.
///
/// Source: the Z algorithm, Gusfield 1997, *Algorithms on Strings, Trees, and Sequences*, 1.4, from the end.
fn suffix_matches(tokens: &[u32], matches: &mut Vec<usize>) {
    let len = tokens.len();
    let back = |i: usize| tokens[len - 1 - i];
    matches.clear();
    matches.resize(len.saturating_sub(1), 0);
    // What is known: tokens from `start` on, up to `end`, are equal to those from 0 on, counted from the end.
    let (mut start, mut end) = (0, 0);
    for i in 1..len {
        let known = if i < end { matches[len - 1 - (i - start)].min(end - i) } else { 0 };
        let more = (i + known..len).take_while(|&j| back(j) == back(j - i)).count();
        let length = known + more;
        if i + length > end {
            (start, end) = (i, i + length);
        }
        matches[len - 1 - i] = length;
    }
}
