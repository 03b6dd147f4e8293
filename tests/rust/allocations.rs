//! The decode loop allocates nothing. Alone in its file: the count is of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bitnet_inference::backend::Cut;
use bitnet_inference::{LoadOptions, LoadedModel};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decoding_a_token_allocates_nothing() {
    for threads in [1, 2] {
        let options = LoadOptions { threads: Some(threads), ..LoadOptions::default() };
        let model = LoadedModel::embedded(&options).unwrap();
        let mut sequence = model.backend().start(128).unwrap();
        sequence.feed(&[2043, 555, 695], 1).unwrap();
        let mut decode = |tokens: u32| {
            for id in 0..tokens {
                sequence.feed(&[id], 1).unwrap();
                sequence.candidates(&Cut::GREEDY).unwrap();
            }
        };
        // A thread grows its buffers when it first takes part, which on a busy machine is not the first token.
        decode(25);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        decode(100);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{threads} threads");
    }
}
