//! A recorded sequence of blocks taken and given back, to be replayed.
//!
//! A line `+BYTES` takes a block, `0BYTES` one of zeros, and `-N` gives back the one that was taken `N` blocks before the
//! last: `-0` is the last. Lines that start with `#` are comments.

use std::fmt;
use std::str::FromStr;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// A block begins to be used.
    Take {
        /// Bytes.
        bytes: usize,
        /// Whether it has to be zeros.
        zeroed: bool,
    },
    /// A block is no longer used.
    Give {
        /// Its number, counted from the first block of the trace.
        block: usize,
    },
}

/// A trace in which each block that is taken is given back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllocationTrace {
    /// In their order.
    pub allocations: Vec<Allocation>,
}

impl AllocationTrace {
    /// A trace of what was recorded; what is in use at its end is given back there.
    pub fn new(recorded: impl IntoIterator<Item = Allocation>) -> Self {
        let mut allocations: Vec<_> = recorded.into_iter().collect();
        let mut live = std::collections::BTreeSet::new();
        let mut taken = 0;
        for allocation in &allocations {
            match allocation {
                Allocation::Take { .. } => {
                    live.insert(taken);
                    taken += 1;
                }
                Allocation::Give { block } => {
                    live.remove(block);
                }
            }
        }
        allocations.extend(live.into_iter().map(|block| Allocation::Give { block }));
        Self { allocations }
    }

    /// Blocks that are taken, and their bytes.
    pub fn taken(&self) -> (usize, usize) {
        let bytes = self.allocations.iter().filter_map(|allocation| match allocation {
            Allocation::Take { bytes, .. } => Some(*bytes),
            Allocation::Give { .. } => None,
        });
        bytes.fold((0, 0), |(blocks, sum), bytes| (blocks + 1, sum + bytes))
    }
}

impl fmt::Display for AllocationTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut taken = 0;
        for allocation in &self.allocations {
            match allocation {
                Allocation::Take { bytes, zeroed } => {
                    taken += 1;
                    writeln!(f, "{}{bytes}", if *zeroed { '0' } else { '+' })?;
                }
                Allocation::Give { block } => writeln!(f, "-{}", taken - 1 - block)?,
            }
        }
        Ok(())
    }
}

impl FromStr for AllocationTrace {
    /// The line that is no allocation.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut allocations, mut taken) = (Vec::new(), 0_usize);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let number = line.get(1..).and_then(|digits| digits.parse::<usize>().ok());
            let allocation = match (line.as_bytes().first(), number) {
                (Some(sign @ (b'+' | b'0')), Some(bytes)) => {
                    taken += 1;
                    Some(Allocation::Take { bytes, zeroed: *sign == b'0' })
                }
                (Some(b'-'), Some(back)) => {
                    taken.checked_sub(back + 1).map(|block| Allocation::Give { block })
                }
                _ => None,
            };
            allocations.push(allocation.ok_or_else(|| line.to_owned())?);
        }
        Ok(Self { allocations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let take = |bytes| Allocation::Take { bytes, zeroed: bytes == 7 };
        let give = |block| Allocation::Give { block };
        let trace = AllocationTrace::new([take(64), take(7), give(0), take(1), give(1)]);
        assert_eq!(trace.to_string(), "+64\n07\n-1\n+1\n-1\n-0\n");
        assert_eq!(format!("# made up\n{trace}").parse::<AllocationTrace>().unwrap(), trace);
        assert_eq!(trace.taken(), (3, 72));
        assert_eq!("+1\n-1\n".parse::<AllocationTrace>(), Err("-1".into()));
    }
}
