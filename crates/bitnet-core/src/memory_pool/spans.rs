//! Large blocks: spans of regions, mappings that are reused, mappings that are not; and how much is kept of what is free.

use std::collections::BTreeMap;

use super::mapping::Mapping;
use super::regions::{Regions, STEP, Span};
use super::stretch::{HUGE, Stretch, Stretches};

/// Bytes of the largest span that is cut from a region; larger blocks are mappings of their own.
pub(super) const LARGEST: usize = 16 << 20;
/// Bytes from which zeros are new pages rather than memory that is cleared.
pub(super) const LAZY: usize = 1 << 20;
/// Bytes of the first region, and of the largest that is mapped for more than one span.
const FIRST_REGION: usize = 4 << 20;
const LARGEST_REGION: usize = 64 << 20;

/// A block may be longer than what was asked for by this part of it.
const WASTE: usize = 4;
/// Bytes that are kept whatever is in use.
const FLOOR: usize = 32 << 20;
/// Blocks taken and given back in half a window: some steps of a training, whose threads are not always at their peaks
/// together.
const WINDOW: u32 = 1 << 14;

/// How a large block is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Cut from a region.
    Span,
    /// A mapping that is kept for the next.
    Large,
    /// Pages that go back to the system.
    Pages,
}

/// Blocks of a kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) live_blocks: u64,
    pub(super) live_bytes: usize,
    pub(super) held_bytes: usize,
    pub(super) reused_blocks: u64,
}

/// The most that was in use lately: in this half of the window and in the one before.
#[derive(Debug, Default)]
struct Window {
    turns: u32,
    peak: usize,
    peak_before: usize,
}

impl Window {
    fn turn(&mut self, live: usize) {
        self.turns += 1;
        if self.turns == WINDOW {
            *self = Self { turns: 0, peak: live, peak_before: self.peak };
        }
        self.peak = self.peak.max(live);
    }

    fn peak(&self) -> usize {
        self.peak.max(self.peak_before)
    }
}

/// What the threads share.
#[derive(Debug, Default)]
pub(super) struct Spans {
    regions: Regions,
    /// Mappings that nobody uses, the one that has waited longest first.
    waiting: Vec<Mapping>,
    stretches: Stretches,
    counts: [Count; 3],
    /// Blocks in use by length.
    live: BTreeMap<usize, u64>,
    window: Window,
}

impl Spans {
    /// The length of the block for `len` bytes, if it can be counted.
    pub(super) fn block_len(len: usize) -> Option<usize> {
        let step = if len > LARGEST { HUGE } else { STEP };
        len.checked_next_multiple_of(step).filter(|len| isize::try_from(*len).is_ok())
    }

    /// The length of the region to map where no free one holds `len` bytes: as much as there is, within bounds.
    pub(super) fn region_len(&self, len: usize) -> usize {
        self.regions.bytes().clamp(FIRST_REGION, LARGEST_REGION).max(len).next_multiple_of(HUGE)
    }

    /// A span of a region there is.
    pub(super) fn take_span(&mut self, len: usize) -> Option<Span> {
        let span = self.regions.take(len)?;
        self.count_taken(Kind::Span, len);
        self.counts[Kind::Span as usize].reused_blocks += 1;
        Some(span)
    }

    /// A span of a new region.
    pub(super) fn take_span_of(&mut self, region: Mapping, len: usize) -> Span {
        self.counts[Kind::Span as usize].held_bytes += region.len();
        self.regions.add(region);
        let span = self.regions.take(len).expect("a region is mapped for a span it holds");
        self.count_taken(Kind::Span, len);
        span
    }

    /// The shortest mapping that waits and holds `len` bytes without much waste.
    pub(super) fn take_waiting(&mut self, len: usize) -> Option<Mapping> {
        let fits = |mapping: &&Mapping| (len..=len + len / WASTE).contains(&mapping.len());
        let best = self.waiting.iter().filter(fits).map(Mapping::len).min()?;
        let index = self.waiting.iter().position(|mapping| mapping.len() == best)?;
        self.count_taken(Kind::Large, best);
        self.counts[Kind::Large as usize].reused_blocks += 1;
        Some(self.waiting.remove(index))
    }

    /// Counts a new mapping.
    pub(super) fn count_mapped(&mut self, kind: Kind, len: usize) {
        self.counts[kind as usize].held_bytes += len;
        self.count_taken(kind, len);
    }

    /// Takes a span back; returns what is to be given back to the system.
    pub(super) fn give_span(&mut self, span: Span) -> Vec<Mapping> {
        self.count_given(Kind::Span, span.len);
        self.regions.give(span);
        self.surplus()
    }

    /// Takes a mapping back, to be reused; returns what is to be given back to the system.
    pub(super) fn give_waiting(&mut self, mapping: Mapping) -> Vec<Mapping> {
        self.count_given(Kind::Large, mapping.len());
        self.waiting.push(mapping);
        self.surplus()
    }

    /// Pages that nobody has had before.
    pub(super) fn take_stretch(&mut self, len: usize, huge: bool) -> Option<Stretch> {
        let stretch = self.stretches.take(len, huge)?;
        self.count_mapped(Kind::Pages, stretch.len());
        Some(stretch)
    }

    /// Counts pages that went back to the system.
    pub(super) fn count_given_pages(&mut self, len: usize) {
        self.count_given(Kind::Pages, len);
        self.counts[Kind::Pages as usize].held_bytes -= len;
    }

    /// Gives up all that is free.
    pub(super) fn free_mappings(&mut self) -> Vec<Mapping> {
        std::iter::from_fn(|| self.remove_free()).collect()
    }

    /// Blocks of each kind, by [`Kind`].
    pub(super) fn counts(&self) -> [Count; 3] {
        self.counts
    }

    /// How many blocks of each length are in use.
    pub(super) fn live(&self) -> &BTreeMap<usize, u64> {
        &self.live
    }

    /// Gives up what is free of what is held beyond twice what was in use lately, and a little more.
    fn surplus(&mut self) -> Vec<Mapping> {
        let allowed = 2 * self.window.peak() + FLOOR;
        let is_beyond = |spans: &Self| spans.reusable(|count| count.held_bytes) > allowed;
        std::iter::from_fn(|| is_beyond(self).then(|| self.remove_free()).flatten()).collect()
    }

    fn remove_free(&mut self) -> Option<Mapping> {
        let (kind, mapping) = if self.waiting.is_empty() {
            (Kind::Span, self.regions.remove_empty()?)
        } else {
            (Kind::Large, self.waiting.remove(0))
        };
        self.counts[kind as usize].held_bytes -= mapping.len();
        Some(mapping)
    }

    fn reusable(&self, bytes: impl Fn(&Count) -> usize) -> usize {
        bytes(&self.counts[Kind::Span as usize]) + bytes(&self.counts[Kind::Large as usize])
    }

    fn count_taken(&mut self, kind: Kind, len: usize) {
        let count = &mut self.counts[kind as usize];
        count.live_blocks += 1;
        count.live_bytes += len;
        *self.live.entry(len).or_default() += 1;
        self.window.turn(self.reusable(|count| count.live_bytes));
    }

    fn count_given(&mut self, kind: Kind, len: usize) {
        let count = &mut self.counts[kind as usize];
        count.live_blocks -= 1;
        count.live_bytes -= len;
        let blocks = self.live.get_mut(&len).expect("a block is counted when it is taken");
        *blocks -= 1;
        if *blocks == 0 {
            self.live.remove(&len);
        }
        self.window.turn(self.reusable(|count| count.live_bytes));
    }
}
