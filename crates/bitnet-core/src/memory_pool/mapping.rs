//! Pages of the operating system.

use std::ptr::NonNull;

use map::Map;

/// Whole pages, zero until they are written, and taking memory only from then on.
#[derive(Debug)]
pub(super) struct Mapping(Map);

impl Mapping {
    /// At least `len` bytes; nothing when the system has none. `huge` asks for huge pages, which are faster to fill and to
    /// read, but take memory 2 MiB at a time.
    pub(super) fn zeroed(len: usize, huge: bool) -> Option<Self> {
        let map = Map::zeroed(len.max(1))?;
        if huge {
            map.prefer_huge_pages();
        }
        Some(Self(map))
    }

    /// Gives the memory of a part back to the system: it holds zeros again.
    pub(super) fn forget(&self, offset: usize, len: usize) {
        self.0.forget(offset, len);
    }

    /// Where it starts: at a page.
    pub(super) fn start(&self) -> NonNull<u8> {
        NonNull::new(self.0.as_mut_ptr()).expect("a mapping is not at address 0")
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(not(miri))]
mod map {
    #[derive(Debug)]
    pub(super) struct Map(memmap2::MmapRaw);

    impl Map {
        pub(super) fn zeroed(len: usize) -> Option<Self> {
            Some(Self(memmap2::MmapMut::map_anon(len).ok()?.into()))
        }

        pub(super) fn prefer_huge_pages(&self) {
            #[cfg(target_os = "linux")]
            // Where it is not allowed, small pages do.
            drop(self.0.advise(memmap2::Advice::HugePage));
            #[cfg(not(target_os = "linux"))]
            let _ = &self.0;
        }

        #[cfg_attr(target_os = "linux", expect(unsafe_code, reason = "takes memory away"))]
        pub(super) fn forget(&self, offset: usize, len: usize) {
            #[cfg(target_os = "linux")]
            // SAFETY: private memory becomes zeros, which are as good as any plain data. Failing keeps it.
            drop(unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len) });
            #[cfg(not(target_os = "linux"))]
            let _ = (&self.0, offset, len);
        }

        pub(super) fn as_mut_ptr(&self) -> *mut u8 {
            self.0.as_mut_ptr()
        }

        pub(super) fn len(&self) -> usize {
            self.0.len()
        }
    }
}

/// Miri runs no code of the operating system, and knows little of what is asked of it here.
#[cfg(miri)]
#[expect(unsafe_code, reason = "stands for pages of the system")]
mod map {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    #[derive(Debug)]
    pub(super) struct Map {
        start: *mut u8,
        layout: Layout,
    }

    // SAFETY: it owns its memory.
    unsafe impl Send for Map {}

    impl Map {
        pub(super) fn zeroed(len: usize) -> Option<Self> {
            let layout = Layout::from_size_align(len, 16 << 10).ok()?;
            // SAFETY: `len` is not 0.
            let start = unsafe { alloc_zeroed(layout) };
            (!start.is_null()).then_some(Self { start, layout })
        }

        pub(super) fn prefer_huge_pages(&self) {}

        pub(super) fn forget(&self, _offset: usize, _len: usize) {}

        pub(super) fn as_mut_ptr(&self) -> *mut u8 {
            self.start
        }

        pub(super) fn len(&self) -> usize {
            self.layout.size()
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start, self.layout) };
        }
    }
}
