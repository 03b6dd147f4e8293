//! Pages of blocks that live long, one behind the other in a mapping, so that huge pages reach across their ends.
//!
//! The system gives a huge page where all of its 2 MiB are mapped. The weights of one layer are a few megabytes: mapped
//! by themselves, more than half of them would lie in small pages.

use std::ptr::NonNull;
use std::sync::Arc;

use super::mapping::Mapping;
use super::regions::STEP;

/// A huge page.
pub(super) const HUGE: usize = 2 << 20;
/// Bytes that are mapped for several blocks; they take memory as they are written. Larger blocks are mapped alone.
const RESERVED: usize = 64 << 20;
/// Where memory can be given back from the middle of a mapping, and there are huge pages.
const CAN_SHARE: bool = cfg!(all(target_os = "linux", not(miri)));

/// A part of a mapping in use by one block, whose memory goes back to the system when dropped.
#[derive(Debug)]
pub(super) struct Stretch {
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
}

impl Stretch {
    /// Where it starts: at a page.
    pub(super) fn start(&self) -> NonNull<u8> {
        let start = self.mapping.start().as_ptr().wrapping_add(self.offset);
        NonNull::new(start).expect("a mapping is not at address 0")
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        self.mapping.forget(self.offset, self.len);
    }
}

/// A mapping whose front is in use. No part of it is used twice.
#[derive(Debug)]
struct Reserved {
    mapping: Arc<Mapping>,
    used: usize,
}

/// Gives stretches.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    current: Option<Reserved>,
}

impl Stretches {
    /// The length of the block for `len` bytes.
    pub(super) fn block_len(len: usize) -> usize {
        len.max(1).checked_next_multiple_of(STEP).unwrap_or(len)
    }

    /// A block of zeros of this length; nothing when the system has none. `huge` as [`Mapping::zeroed`] has it.
    pub(super) fn take(&mut self, len: usize, huge: bool) -> Option<Stretch> {
        if !shares(len, huge) {
            let mapping = Mapping::zeroed(len, huge)?;
            return Some(Stretch { mapping: Arc::new(mapping), offset: 0, len });
        }
        let has_room = |reserved: &&mut Reserved| reserved.mapping.len() - reserved.used >= len;
        if let Some(reserved) = self.current.as_mut().filter(has_room) {
            return Some(reserved.cut(len));
        }
        let mapping = Mapping::zeroed(RESERVED + HUGE, true)?;
        let used = mapping.start().as_ptr().align_offset(HUGE);
        let reserved = self.current.insert(Reserved { mapping: Arc::new(mapping), used });
        Some(reserved.cut(len))
    }
}

/// Whether a block shares a mapping.
fn shares(len: usize, huge: bool) -> bool {
    huge && CAN_SHARE && len <= RESERVED
}

impl Reserved {
    fn cut(&mut self, len: usize) -> Stretch {
        let offset = self.used;
        self.used += len;
        Stretch { mapping: Arc::clone(&self.mapping), offset, len }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    /// Bytes of memory that the mapping around `address` takes.
    fn resident(address: usize) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let ends = range.and_then(|(start, end)| {
                Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
            });
            !ends.is_some_and(|(start, end)| (start..end).contains(&address))
        });
        let line = lines.find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    #[expect(unsafe_code, reason = "memory by pointer")]
    fn write(stretch: &Stretch) {
        // SAFETY: the stretch is this long, and of nobody else.
        unsafe { stretch.start().as_ptr().write_bytes(1, stretch.len()) };
    }

    #[test]
    fn neighbours_touch_and_give_their_memory_back_alone() {
        const LEN: usize = 6 << 20;
        let mut stretches = Stretches::default();
        let [first, second] = [LEN, LEN].map(|len| stretches.take(len, true).unwrap());
        assert_eq!(first.start().as_ptr() as usize % HUGE, 0);
        assert_eq!(first.start().as_ptr() as usize + LEN, second.start().as_ptr() as usize);
        let address = second.start().as_ptr() as usize;
        let before = resident(address);
        write(&first);
        write(&second);
        assert!(resident(address) >= before + 2 * LEN);
        drop(first);
        assert!(resident(address) < before + 2 * LEN);
        write(&second);
    }

    #[test]
    fn what_is_large_or_not_huge_is_mapped_alone() {
        let mut stretches = Stretches::default();
        for (len, huge) in [(RESERVED + 1, true), (100, false)] {
            let alone = stretches.take(len, huge).unwrap();
            assert_eq!((alone.offset, alone.mapping.len()), (0, alone.len));
        }
        // A reservation that has no room gives way to the next.
        let all: Vec<Stretch> = (0..5).map(|_| stretches.take(20 << 20, true).unwrap()).collect();
        let mut mappings: Vec<usize> = all.iter().map(|s| s.mapping.start().as_ptr() as usize).collect();
        mappings.dedup();
        assert_eq!(mappings.len(), 2);
    }
}
