//! What a pool has given out, what it holds, and what is in use.

use std::fmt;

/// The memory of a pool. Blocks count as long as they are, not as what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryStats {
    /// Bytes in use.
    pub live_bytes: usize,
    /// Bytes in use at most, ever; small blocks that threads keep, up to 1 MiB each, count as used.
    pub peak_bytes: usize,
    /// Bytes that the system has given and not got back.
    pub held_bytes: usize,
    /// Blocks that were served from what was held, ever.
    pub reused_blocks: u64,
    /// Bytes given back to the system, ever.
    pub returned_bytes: usize,
    /// The same by size of blocks; sizes of which nothing was ever held are left out.
    pub classes: Vec<ClassStats>,
}

impl MemoryStats {
    /// `(held - live) / held`, 0 where nothing is held.
    pub fn fragmentation(&self) -> f64 {
        fragmentation(self.held_bytes, self.live_bytes)
    }
}

/// How blocks of a size are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockClass {
    /// Small blocks of one size.
    Small {
        /// Bytes of each.
        bytes: usize,
    },
    /// Spans that are cut from regions, up to 16 MiB.
    Spans,
    /// Mappings of their own, which are reused.
    Large,
    /// Zeroed mappings of their own, which go back to the system.
    Pages,
}

impl fmt::Display for BlockClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small { bytes } => write!(f, "{bytes}"),
            Self::Spans => f.write_str("spans"),
            Self::Large => f.write_str("large"),
            Self::Pages => f.write_str("pages"),
        }
    }
}

/// Blocks of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassStats {
    /// Which.
    pub class: BlockClass,
    /// Blocks in use.
    pub live_blocks: u64,
    /// Their bytes.
    pub live_bytes: usize,
    /// Bytes held for the class.
    pub held_bytes: usize,
    /// Blocks that were served from what was held, ever.
    pub reused_blocks: u64,
}

impl ClassStats {
    /// `(held - live) / held`, 0 where nothing is held.
    pub fn fragmentation(&self) -> f64 {
        fragmentation(self.held_bytes, self.live_bytes)
    }
}

fn fragmentation(held: usize, live: usize) -> f64 {
    if held == 0 { 0.0 } else { held.saturating_sub(live) as f64 / held as f64 }
}

/// What is in use at a moment: a program that is done with its blocks and still has some shows here which.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveBlocks(
    /// Bytes of a block, and how many such there are, by size.
    pub Vec<(usize, u64)>,
);

impl LiveBlocks {
    /// What is in use now and was not at a moment before, by size.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let count_before =
            |bytes| before.0.iter().find(|(size, _)| *size == bytes).map_or(0, |(_, count)| *count);
        let more = self.0.iter().map(|&(bytes, count)| (bytes, count.saturating_sub(count_before(bytes))));
        Self(more.filter(|(_, count)| *count > 0).collect())
    }
}

impl fmt::Display for LiveBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(bytes, count)| writeln!(f, "{count} x {bytes} bytes"))
    }
}
