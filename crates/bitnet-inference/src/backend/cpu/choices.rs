//! Tokens that a sampler can choose, found without most of the head.
//!
//! Every row is scored from three bits, with a bound on the error (see `bitnet_quant::compact_rows`). The exact logits of
//! the rows with the best scores are a level that others must reach; those whose score can, within its bound, are scored
//! from a fourth bit as well, and computed exactly if they still can. What is left has the same logits as a full head,
//! and misses none that counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use bitnet_core::{DisjointSlice, FloatMatrix, ThreadPool};
use bitnet_quant::{CompactRows, Margin, RoundedActivations, SCORE_BLOCK, ScoreBlock, TernaryKernel};

use super::compute::Compute;
use super::head::{LARGEST_SHARE, seeds};
use crate::backend::{Candidate, Choice, Cut};

/// How many candidates ahead a row is asked for: few in memory are neighbours.
const ROWS_AHEAD: usize = 8;

/// Buffers of the choices of a batch, grown when there are more than before.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// Of the choices that are made by scores.
    rounded: Vec<RoundedActivations>,
    /// `[choices made by scores, rows of the head]`.
    scores: Vec<f32>,
    /// `[choices made by scores, blocks of those rows]`.
    blocks: Vec<ScoreBlock>,
    answers: Vec<Answer>,
    len: usize,
}

/// What was found for one choice.
#[derive(Debug)]
pub(super) struct Answer {
    best: BinaryHeap<Reverse<(OrderedScore, Reverse<u32>)>>,
    /// What may follow, in the order of the ids.
    candidates: Vec<Candidate>,
    is_found: bool,
    refined: usize,
    rescored: usize,
}

/// What a search reads.
pub(super) struct Search<'a> {
    pub(super) compute: &'a Compute,
    pub(super) head: &'a FloatMatrix,
    pub(super) compact: &'a CompactRows,
}

/// A float in the order of `total_cmp`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OrderedScore(f32);

impl Eq for OrderedScore {}

impl PartialOrd for OrderedScore {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedScore {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Choices {
    /// Forgets the answers there were, for `len` new ones of a vocabulary.
    pub(super) fn begin(&mut self, len: usize, vocab_size: usize) {
        self.len = len;
        if self.answers.len() < len {
            self.answers.resize_with(len, || Answer::new(vocab_size));
        }
        self.answers_mut().for_each(|answer| answer.is_found = false);
    }

    pub(super) fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.answers[..self.len].iter()
    }

    pub(super) fn answers_mut(&mut self) -> impl Iterator<Item = &mut Answer> {
        self.answers[..self.len].iter_mut()
    }

    /// What was found for a choice.
    pub(super) fn candidates(&self, choice: usize) -> &[Candidate] {
        &self.answers[..self.len][choice].candidates
    }

    /// Scores all rows for the `tokens` of `x`.
    pub(super) fn score(
        &mut self,
        pool: &ThreadPool,
        kernel: &TernaryKernel,
        compact: &CompactRows,
        x: &[f32],
        tokens: usize,
    ) {
        if self.rounded.len() < tokens {
            self.rounded.resize_with(tokens, RoundedActivations::default);
            self.scores.resize(tokens * compact.rows(), 0.0);
            self.blocks.resize(tokens * compact.score_blocks(), ScoreBlock::default());
        }
        let scores = &mut self.scores[..tokens * compact.rows()];
        let blocks = &mut self.blocks[..tokens * compact.score_blocks()];
        compact.scores(pool, kernel, x, &mut self.rounded[..tokens], scores, blocks);
    }

    /// Answers those of `choices` that `is_scored`, in their order, from the scores of their tokens `x`.
    #[expect(unsafe_code, reason = "threads write disjoint answers")]
    pub(super) fn search(
        &mut self,
        search: &Search<'_>,
        x: &[f32],
        choices: &[Choice<'_>],
        is_scored: impl Fn(&&Choice<'_>) -> bool + Sync,
    ) {
        let Self { rounded, scores, blocks, answers, .. } = self;
        let (rows, cols) = (search.head.rows(), search.head.cols());
        let blocks_of_token = search.compact.score_blocks();
        let scored = || choices.iter().enumerate().filter(|(_, choice)| is_scored(choice)).enumerate();
        let pool = &*search.compute.pool;
        let answers = DisjointSlice::new(answers);
        let answer = |(token, (index, choice)): (usize, (usize, &Choice<'_>)),
                      threads: Option<&ThreadPool>| {
            let token = Token {
                x: &x[token * cols..][..cols],
                rounded: &rounded[token],
                scores: &scores[token * rows..][..rows],
                blocks: &blocks[token * blocks_of_token..][..blocks_of_token],
            };
            // SAFETY: every choice belongs to one thread.
            let [answer] = (unsafe { answers.part(index..index + 1) }) else { unreachable!("one answer") };
            answer.find(search, threads, &token, &choice.cut);
        };
        // The threads share one choice, or have one each.
        match scored().count() {
            1 => scored().for_each(|choice| answer(choice, Some(pool))),
            count => pool.split(count, 1, |range| {
                scored().skip(range.start).take(range.len()).for_each(|choice| answer(choice, None));
            }),
        }
    }
}

/// A token and its scores.
struct Token<'a> {
    x: &'a [f32],
    rounded: &'a RoundedActivations,
    scores: &'a [f32],
    blocks: &'a [ScoreBlock],
}

impl<'a> Token<'a> {
    /// Each block with the row that it begins at, and its scores.
    fn blocks(&self) -> impl Iterator<Item = (&'a ScoreBlock, usize, &'a [f32])> {
        let starts = (0..).step_by(SCORE_BLOCK);
        let scores = self.scores.chunks(SCORE_BLOCK);
        self.blocks.iter().zip(starts).zip(scores).map(|((block, start), scores)| (block, start, scores))
    }
}

impl Answer {
    /// With room for a whole vocabulary: what is not touched takes no memory, and nothing is allocated again.
    fn new(vocab_size: usize) -> Self {
        Self {
            best: BinaryHeap::with_capacity(vocab_size / LARGEST_SHARE + 1),
            candidates: Vec::with_capacity(vocab_size),
            is_found: false,
            refined: 0,
            rescored: 0,
        }
    }

    pub(super) fn is_found(&self) -> bool {
        self.is_found
    }

    /// Rows whose fourth bit was read.
    pub(super) fn refined(&self) -> usize {
        self.refined
    }

    /// Rows that were computed exactly.
    pub(super) fn rescored(&self) -> usize {
        self.rescored
    }

    /// Takes the whole vocabulary.
    pub(super) fn take_all(&mut self, logits: &[f32]) {
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }));
        self.is_found = true;
    }

    /// Finds what `cut` keeps, with the threads of `pool` or with this one alone; nothing where the token is not finite.
    fn find(&mut self, search: &Search<'_>, pool: Option<&ThreadPool>, token: &Token<'_>, cut: &Cut<'_>) {
        let Some(margin) = token.rounded.margin() else { return };
        let seeds = seeds(cut);
        self.take_best(token, cut, seeds);
        let exact = |id: u32| search.head.row_dot(&search.compute.floats, id as usize, token.x);
        let level = self.level(cut, exact);
        self.take_candidates(token, cut, search.compact, margin, level);
        self.refined = self.candidates.len();
        self.refine(search, pool, token, cut, margin, level);
        each(pool, &mut self.candidates, 8, |candidates| {
            for candidate in candidates {
                candidate.logit = exact(candidate.id);
            }
        });
        self.rescored = self.candidates.len() + seeds;
        self.is_found = true;
    }

    /// Keeps the `seeds` best scores.
    fn take_best(&mut self, token: &Token<'_>, cut: &Cut<'_>, seeds: usize) {
        let best = &mut self.best;
        best.clear();
        let mut worst = f32::NEG_INFINITY;
        for (block, start, scores) in token.blocks() {
            if best.len() == seeds && is_at_most(block.best, worst) && cut.only_lowers() {
                continue;
            }
            for (id, score) in (start..).zip(scores) {
                let entry = Reverse((OrderedScore(cut.penalise(id, *score)), Reverse(id as u32)));
                if best.len() < seeds {
                    best.push(entry);
                } else if let Some(mut last) = best.peek_mut().filter(|last| entry < **last) {
                    *last = entry;
                }
            }
            worst = best.peek().map_or(worst, |Reverse((score, _))| score.0);
        }
    }

    /// The level that a penalised logit must reach: that of the worst of the best, and not too far below the best.
    fn level(&self, cut: &Cut<'_>, exact: impl Fn(u32) -> f32) -> f32 {
        let (mut worst, mut best) = (f32::INFINITY, f32::NEG_INFINITY);
        for Reverse((_, Reverse(id))) in &self.best {
            let logit = cut.penalise(*id as usize, exact(*id));
            // No number makes no level: everything then reaches it, and is found not to be finite.
            if logit.is_nan() {
                return f32::NEG_INFINITY;
            }
            (worst, best) = (worst.min(logit), best.max(logit));
        }
        let lowest = best - cut.below_best;
        if cut.top_k == usize::MAX { lowest } else { worst.max(lowest) }
    }

    /// Keeps every token whose penalised logit can reach `level`.
    fn take_candidates(
        &mut self,
        token: &Token<'_>,
        cut: &Cut<'_>,
        compact: &CompactRows,
        margin: Margin,
        level: f32,
    ) {
        let candidates = &mut self.candidates;
        candidates.clear();
        for (block, start, scores) in token.blocks() {
            if cut.only_lowers() && is_below(block.reach, level) {
                continue;
            }
            let distances = compact.distances(margin, start..start + scores.len());
            for (id, (score, distance)) in (start..).zip(scores.iter().zip(distances)) {
                if !is_below(cut.penalise(id, score + distance), level) {
                    candidates.push(Candidate { id: id as u32, logit: f32::NAN });
                }
            }
        }
    }

    /// Of the candidates, keeps those that can reach `level` by their refined scores.
    fn refine(
        &mut self,
        search: &Search<'_>,
        pool: Option<&ThreadPool>,
        token: &Token<'_>,
        cut: &Cut<'_>,
        margin: Margin,
        level: f32,
    ) {
        let Search { compute, compact, .. } = search;
        each(pool, &mut self.candidates, 64, |candidates| {
            for index in 0..candidates.len() {
                if let Some(later) = candidates.get(index + ROWS_AHEAD) {
                    compact.prefetch_refined(later.id as usize);
                }
                let Candidate { id, logit } = &mut candidates[index];
                let id = *id as usize;
                let (score, distance) =
                    compact.refined(&compute.ternary, token.rounded, margin, id, token.scores[id]);
                *logit = cut.penalise(id, score + distance);
            }
        });
        self.candidates.retain(|candidate| !is_below(candidate.logit, level));
    }
}

/// Calls `job` for parts of the candidates, with the threads of `pool` where there is one.
#[expect(unsafe_code, reason = "threads write disjoint candidates")]
fn each(
    pool: Option<&ThreadPool>,
    candidates: &mut [Candidate],
    grain: usize,
    job: impl Fn(&mut [Candidate]) + Sync,
) {
    let Some(pool) = pool else { return job(candidates) };
    let len = candidates.len();
    let shared = DisjointSlice::new(candidates);
    pool.split(len, grain, |range: Range<usize>| {
        // SAFETY: ranges of a split are disjoint.
        job(unsafe { shared.part(range) });
    });
}

/// False for NaN, which is to be noticed.
fn is_at_most(a: f32, b: f32) -> bool {
    a <= b
}

/// False for NaN, which is to be noticed.
fn is_below(a: f32, b: f32) -> bool {
    a < b
}
