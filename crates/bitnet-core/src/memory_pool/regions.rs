//! Spans that are cut from larger mappings, and grow together again.
//!
//! A free stretch is known by address and by length. A request takes the shortest that holds it, of those the first in
//! memory, and leaves the rest free; a span that comes back joins the free stretches on both its sides. The last few are
//! joined only when something else needs it, as the next request often is for the same length.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;

use super::mapping::Mapping;

/// Lengths and addresses of spans are multiples of it: the page size of Apple's chips, four pages elsewhere.
pub(super) const STEP: usize = 16 << 10;

/// Spans that are not joined at once.
const RECENT: usize = 16;

/// A stretch of a region in use by one block.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) start: NonNull<u8>,
    pub(super) len: usize,
    /// Bytes at its front that may have been written; those after are zero, and take no memory.
    pub(super) dirty: usize,
}

#[derive(Debug)]
struct Region {
    mapping: Mapping,
    /// Bytes at its front that have been in use.
    dirty: usize,
}

/// Mappings, by address, and what is free in them.
#[derive(Debug, Default)]
pub(super) struct Regions {
    mapped: BTreeMap<usize, Region>,
    /// Lengths of free stretches.
    free: BTreeMap<usize, usize>,
    /// The same as length and address.
    by_len: BTreeSet<(usize, usize)>,
    /// Addresses and lengths of the spans that came back last.
    recent: Vec<(usize, usize)>,
    bytes: usize,
}

impl Regions {
    /// Bytes of all regions.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A span of `len` bytes, a multiple of [`STEP`]; nothing where no free stretch is so long.
    pub(super) fn take(&mut self, len: usize) -> Option<Span> {
        let at = self.take_recent(len).or_else(|| self.cut(len)).or_else(|| {
            self.join_recent();
            self.cut(len)
        })?;
        let (&start, region) = self.mapped.range_mut(..=at).next_back().expect("free memory is in a region");
        let offset = at - start;
        let dirty = region.dirty.saturating_sub(offset).min(len);
        region.dirty = region.dirty.max(offset + len);
        let start = NonNull::new(region.mapping.start().as_ptr().wrapping_add(offset))?;
        Some(Span { start, len, dirty })
    }

    /// Takes a span back.
    #[expect(clippy::needless_pass_by_value, reason = "nobody may use it afterwards")]
    pub(super) fn give(&mut self, span: Span) {
        if self.recent.len() == RECENT {
            let (at, len) = self.recent.remove(0);
            self.join(at, len);
        }
        self.recent.push((span.start.as_ptr() as usize, span.len));
    }

    /// Adds a region that is free as a whole.
    pub(super) fn add(&mut self, mapping: Mapping) {
        let (at, len) = (mapping.start().as_ptr() as usize, mapping.len());
        self.bytes += len;
        self.insert_free(at, len);
        self.mapped.insert(at, Region { mapping, dirty: 0 });
    }

    /// Gives up a region that is free as a whole, the largest.
    pub(super) fn remove_empty(&mut self) -> Option<Mapping> {
        self.join_recent();
        let is_whole = |&&(len, at): &&(usize, usize)| {
            self.mapped.get(&at).is_some_and(|region| region.mapping.len() == len)
        };
        let &(len, at) = self.by_len.iter().rev().find(is_whole)?;
        self.remove_free(at, len);
        self.bytes -= len;
        self.mapped.remove(&at).map(|region| region.mapping)
    }

    fn take_recent(&mut self, len: usize) -> Option<usize> {
        let index = self.recent.iter().rposition(|(_, recent)| *recent == len)?;
        Some(self.recent.remove(index).0)
    }

    /// The start of `len` bytes cut from a free stretch.
    fn cut(&mut self, len: usize) -> Option<usize> {
        let &(free, at) = self.by_len.range((len, 0)..).next()?;
        self.remove_free(at, free);
        if free > len {
            self.insert_free(at + len, free - len);
        }
        Some(at)
    }

    fn join_recent(&mut self) {
        while let Some((at, len)) = self.recent.pop() {
            self.join(at, len);
        }
    }

    /// Adds a span to what is free.
    fn join(&mut self, mut at: usize, mut len: usize) {
        let (&start, region) = self.mapped.range(..=at).next_back().expect("a span is in a region");
        // Regions may touch, their stretches do not join: each is given back to the system as it was mapped.
        let end = start + region.mapping.len();
        let before = self.free.range(start..at).next_back().map(|(&at, &len)| (at, len));
        if let Some((before, free)) = before.filter(|(before, free)| before + free == at) {
            self.remove_free(before, free);
            (at, len) = (before, len + free);
        }
        if let Some(&free) = self.free.get(&(at + len)).filter(|_| at + len < end) {
            self.remove_free(at + len, free);
            len += free;
        }
        self.insert_free(at, len);
    }

    fn insert_free(&mut self, at: usize, len: usize) {
        self.free.insert(at, len);
        self.by_len.insert((len, at));
    }

    fn remove_free(&mut self, at: usize, len: usize) {
        self.free.remove(&at);
        self.by_len.remove(&(len, at));
    }
}
