//! The sizes of small blocks: steps of a cache line up to 512 bytes, then four steps to a doubling, so that a block is at
//! most a quarter longer than what was asked for, or 63 bytes.

/// Bytes of a cache line, on which every block starts.
pub(super) const LINE: usize = 64;
/// Bytes of the largest small block.
pub(super) const LARGEST: usize = 64 << 10;
/// Number of classes.
pub(super) const COUNT: usize = 36;

/// Classes that are multiples of a line, and the doubling after them.
const LINEAR: usize = 8;
const FIRST_DOUBLING: usize = 9;

/// The class of blocks of `len` bytes, from 1 to [`LARGEST`].
pub(super) fn of(len: usize) -> usize {
    let last = len - 1;
    if last < 1 << FIRST_DOUBLING {
        return last / LINE;
    }
    let doubling = last.ilog2() as usize;
    LINEAR + (doubling - FIRST_DOUBLING) * 4 + (last >> (doubling - 2) & 3)
}

/// Bytes of a block of a class.
pub(super) fn size(class: usize) -> usize {
    match class.checked_sub(LINEAR) {
        None => (class + 1) * LINE,
        Some(step) => (5 + step % 4) << (step / 4 + FIRST_DOUBLING - 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_smallest_that_holds_a_length() {
        for len in 1..=LARGEST {
            let class = of(len);
            assert!(size(class) >= len, "{len}");
            assert!(class == 0 || size(class - 1) < len, "{len}");
            assert!(size(class) <= (len + len / 4).max(len + LINE - 1), "{len}");
        }
        assert_eq!((of(LARGEST), size(COUNT - 1)), (COUNT - 1, LARGEST));
        assert!((0..COUNT).all(|class| size(class).is_multiple_of(LINE)));
    }
}
