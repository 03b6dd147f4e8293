//! Where keys and values of a sequence lie.

/// Positions of a page.
pub const PAGE: usize = 64;

/// A page of a session's KV cache: keys and values of [`PAGE`] positions in every layer.
///
/// Who runs a session says which pages belong to which sequence; a page may belong to several that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Page(pub u32);

impl Page {
    /// Pages that hold `positions`.
    pub const fn count(positions: usize) -> usize {
        positions.div_ceil(PAGE)
    }
}
