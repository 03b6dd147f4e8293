//! Large blocks of memory straight from the operating system.

use crate::{Error, Result};

#[cfg(not(miri))]
type Map = memmap2::MmapMut;
/// Miri runs no code of the operating system, and knows little of what is asked of it here.
#[cfg(miri)]
type Map = Vec<u8>;

/// Zeroed bytes at the start of a page, in huge pages where the system allows them: weights are read from end to end,
/// and with small pages a decoded token would need a hundred thousand translations of addresses.
#[derive(Debug)]
pub struct Pages {
    map: Map,
    len: usize,
}

impl Pages {
    /// Errors: [`Error::OutOfMemory`].
    pub fn zeroed(len: usize) -> Result<Self> {
        Ok(Self { map: map(len)?, len })
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}

#[cfg(not(miri))]
fn map(len: usize) -> Result<Map> {
    let map = Map::map_anon(len.max(1)).map_err(|_| Error::OutOfMemory { bytes: len })?;
    #[cfg(target_os = "linux")]
    // Where it is not allowed, small pages do.
    drop(map.advise(memmap2::Advice::HugePage));
    Ok(map)
}

#[cfg(miri)]
fn map(len: usize) -> Result<Map> {
    let mut map = Vec::new();
    map.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len })?;
    map.resize(len, 0);
    Ok(map)
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

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
