//! Large blocks of memory straight from the operating system.

use crate::{HybridMemoryPool, PoolVec, Result};

/// Zeroed bytes at the start of a page, in huge pages where the system allows them: weights are read from end to end,
/// and with small pages a decoded token would need a hundred thousand translations of addresses.
#[derive(Debug)]
pub struct Pages(PoolVec<u8>);

impl Pages {
    /// Errors: [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::MemoryLimit`](crate::Error::MemoryLimit).
    pub fn zeroed(len: usize) -> Result<Self> {
        HybridMemoryPool::global().pages(len).map(Self)
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn pages_are_zero_and_aligned() {
        for len in [0, 1, 5 << 20] {
            let mut pages = Pages::zeroed(len).unwrap();
            assert_eq!(pages.as_ref().as_ptr() as usize % 4096, 0);
            assert!(pages.as_mut_slice().iter().all(|byte| *byte == 0));
            assert_eq!(pages.as_ref().len(), len);
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        assert_eq!(Pages::zeroed(1 << 60).unwrap_err(), Error::OutOfMemory { bytes: 1 << 60 });
    }
}
