use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::{HybridMemoryPool, LiveBlocks, PoolVec};
use crate::{Buffer, DType, Error, Tensor};

const MIB: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
enum Step {
    Take { len: usize, zeroed: bool },
    Give(usize),
    Resize(usize, usize),
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = || {
        prop_oneof![
            4 => 0..600_usize,
            4 => 600..70_000_usize,
            4 => 70_000..400_000_usize,
            1 => MIB - 2..2 * MIB,
            1 => 16 * MIB - 2..20 * MIB,
        ]
    };
    let step = prop_oneof![
        6 => (len(), any::<bool>()).prop_map(|(len, zeroed)| Step::Take { len, zeroed }),
        4 => any::<usize>().prop_map(Step::Give),
        2 => (any::<usize>(), len()).prop_map(|(index, len)| Step::Resize(index, len)),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..60)
}

/// Distance of the bytes that are looked at: a new page takes its time.
fn distance(len: usize) -> usize {
    if len < MIB { 1 } else { 100_003 }
}

fn fill(block: &mut [u8], byte: u8) {
    let distance = distance(block.len());
    block.iter_mut().step_by(distance).for_each(|at| *at = byte);
}

fn is_filled(block: &[u8], byte: u8) -> bool {
    let different = |block: &[u8]| block.iter().fold(0, |different, at| different | (at ^ byte));
    match distance(block.len()) {
        1 => different(block) == 0,
        distance => block.iter().step_by(distance).all(|at| *at == byte),
    }
}

/// Blocks, each filled with a byte of its own.
#[derive(Default)]
struct Model {
    blocks: Vec<(PoolVec<u8>, u8)>,
    next: u8,
    peak: usize,
}

impl Model {
    fn fill(&mut self, mut block: PoolVec<u8>) {
        self.next = self.next.wrapping_add(1);
        fill(&mut block, self.next);
        self.blocks.push((block, self.next));
    }

    fn run(&mut self, pool: &HybridMemoryPool, step: Step) {
        match step {
            Step::Take { len, zeroed } => {
                let block = if zeroed { pool.zeroed(len) } else { pool.uncleared(len) }.unwrap();
                assert!(!zeroed || is_filled(&block, 0));
                assert!((len..=len + len / 2 + 63).contains(&block.capacity()));
                self.fill(block);
            }
            Step::Trim => {
                pool.trim();
            }
            Step::Give(index) if !self.blocks.is_empty() => {
                self.blocks.swap_remove(index % self.blocks.len());
            }
            Step::Resize(index, len) if !self.blocks.is_empty() => {
                let (mut block, byte) = self.blocks.swap_remove(index % self.blocks.len());
                let (old, capacity) = (block.len(), block.capacity());
                block.resize(len).unwrap();
                if len > capacity {
                    // Both are in use for a moment.
                    self.peak = self.peak.max(self.live() + capacity + block.capacity());
                }
                assert!(block[old.min(len)..].iter().step_by(997).all(|at| *at == 0));
                // Of a large block that became a small one, bytes between those that were filled are anything.
                assert!(distance(old) > distance(len) || is_filled(&block[..old.min(len)], byte));
                self.fill(block);
            }
            Step::Give(_) | Step::Resize(..) => {}
        }
    }

    fn live(&self) -> usize {
        self.blocks.iter().map(|(block, _)| block.capacity()).sum()
    }

    fn check(&mut self, pool: &HybridMemoryPool) {
        let mut ends = BTreeMap::new();
        for (block, byte) in self.blocks.iter().filter(|(block, _)| !block.is_empty()) {
            let start = block.as_ptr() as usize;
            assert_eq!(start % 64, 0);
            assert_eq!(block[0], *byte);
            ends.insert(start, start + block.capacity());
        }
        assert!(ends.iter().zip(ends.iter().skip(1)).all(|((_, end), (start, _))| end <= start));
        let (live, stats) = (self.live(), pool.stats());
        self.peak = self.peak.max(live);
        assert_eq!(stats.live_bytes, live);
        // What a thread keeps counts, up to 1 MiB.
        assert!((self.peak..=self.peak + MIB).contains(&stats.peak_bytes), "{stats:?}");
        assert_eq!(stats.classes.iter().map(|class| class.live_bytes).sum::<usize>(), live);
        assert_eq!(stats.classes.iter().map(|class| class.held_bytes).sum::<usize>(), stats.held_bytes);
        assert!(stats.classes.iter().all(|class| class.live_bytes <= class.held_bytes));
        let blocks = self.blocks.iter().filter(|(block, _)| block.capacity() > 0).count() as u64;
        assert_eq!(stats.classes.iter().map(|class| class.live_blocks).sum::<u64>(), blocks);
        let LiveBlocks(sizes) = pool.live_blocks();
        assert_eq!(sizes.iter().map(|(bytes, count)| bytes * *count as usize).sum::<usize>(), live);
    }
}

proptest! {
    #[test]
    fn blocks_are_apart_and_counted(steps in steps()) {
        let pool = HybridMemoryPool::new(None);
        let mut model = Model::default();
        for step in steps {
            model.run(&pool, step);
            model.check(&pool);
        }
        prop_assert!(model.blocks.iter().all(|(block, byte)| is_filled(block, *byte)));
        drop(model);
        pool.trim();
        let stats = pool.stats();
        prop_assert_eq!((stats.live_bytes, stats.held_bytes, stats.fragmentation()), (0, 0, 0.0));
        prop_assert_eq!(pool.live_blocks(), LiveBlocks::default());
    }
}

#[test]
fn resizing_keeps_elements_and_clears_new_ones() {
    let pool = HybridMemoryPool::new(None);
    let mut elements = pool.zeroed::<u32>(3).unwrap();
    elements.copy_from_slice(&[1, 2, 3]);
    let start = elements.as_ptr();
    for (len, expected) in [(2, &[1, 2][..]), (4, &[1, 2, 0, 0]), (16, &[1, 2, 0])] {
        elements.resize(len).unwrap();
        assert_eq!((elements.as_ptr(), &elements[..expected.len()]), (start, expected));
    }
    elements.resize(30_000).unwrap();
    assert_eq!((elements[1], elements[2], elements[29_999]), (2, 0, 0));
    assert_eq!(pool.stats().live_bytes, 8 * (16 << 10));
}

#[test]
fn what_is_given_back_is_taken_again() {
    let pool = HybridMemoryPool::new(None);
    for len in [100, 60_000, 100_000, 10 * MIB, 20 * MIB] {
        let first = pool.uncleared::<u8>(len).unwrap();
        let (start, held) = (first.as_ptr(), pool.stats().held_bytes);
        drop(first);
        let again = pool.uncleared::<u8>(len - len / 64).unwrap();
        assert_eq!((again.as_ptr(), pool.stats().held_bytes), (start, held), "{len}");
    }
    assert!(pool.stats().reused_blocks >= 5);
}

/// Stretches of a region are joined on both sides: afterwards it holds one span as long as itself.
#[test]
fn neighbours_grow_together() {
    let pool = HybridMemoryPool::new(None);
    let mut spans: Vec<_> = (0..16).map(|_| pool.uncleared::<u8>(MIB / 4).unwrap()).collect();
    let held = pool.stats().held_bytes;
    assert_eq!(held, 4 * MIB);
    for index in [3, 0, 8, 7, 5, 5, 0, 0, 1, 2, 5, 0, 1, 0, 1, 0] {
        drop(spans.remove(index));
    }
    let whole = pool.uncleared::<u8>(4 * MIB).unwrap();
    assert_eq!((whole.capacity(), pool.stats().held_bytes), (held, held));
}

#[test]
fn threads_give_back_what_others_took_and_keep_nothing_when_they_end() {
    let pool = HybridMemoryPool::new(None);
    let (sender, receiver) = channel::<PoolVec<u8>>();
    let taker = std::thread::spawn({
        let pool = pool.clone();
        move || {
            for i in 0..200_usize {
                let mut block = pool.uncleared(1 + i * 997 % 80_000).unwrap();
                block.fill(i as u8);
                sender.send(block).unwrap();
                drop(pool.zeroed::<u16>(i * 7).unwrap());
            }
        }
    });
    let giver = std::thread::spawn(move || {
        for (i, block) in receiver.into_iter().enumerate() {
            assert!(block.iter().all(|byte| *byte == i as u8));
        }
    });
    taker.join().unwrap();
    giver.join().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.live_bytes, pool.live_blocks()), (0, LiveBlocks::default()));
    assert!(stats.classes.iter().all(|class| class.live_blocks == 0));
    // Small blocks went with the threads; what is left is the region of the spans.
    assert_eq!(stats.held_bytes, stats.classes.iter().map(|class| class.held_bytes).max().unwrap());
    assert_eq!(pool.trim(), stats.held_bytes);
}

#[test]
fn more_than_the_limit_is_an_error_until_there_is_room() {
    let pool = HybridMemoryPool::new(Some(MIB));
    let first = pool.uncleared::<u8>(600 << 10).unwrap();
    let held = pool.stats().held_bytes;
    let refused = pool.uncleared::<u8>(500 << 10).unwrap_err();
    assert_eq!(refused, Error::MemoryLimit { bytes: 512 << 10, held, limit: MIB });
    let refused = pool.pages::<u8>(500 << 10).unwrap_err();
    assert_eq!(refused, Error::MemoryLimit { bytes: 512 << 10, held, limit: MIB });
    assert_eq!(pool.stats().held_bytes, held);
    drop(first);
    // What is free goes back to make room.
    drop(pool.pages::<u8>(MIB).unwrap());
    let small = pool.zeroed::<u8>(64).unwrap();
    pool.set_limit(Some(0));
    assert!(matches!(pool.zeroed::<u8>(4096), Err(Error::MemoryLimit { limit: 0, .. })));
    pool.set_limit(None);
    assert!(pool.zeroed::<u8>(4096).is_ok());
    assert_eq!(pool.zeroed::<u64>(usize::MAX / 4).unwrap_err(), Error::OutOfMemory { bytes: usize::MAX });
    drop(small);
}

#[test]
fn listeners_may_free_take_and_trim() {
    let pool = HybridMemoryPool::new(None);
    let cache = Arc::new(Mutex::new(vec![pool.uncleared::<u8>(3 * MIB).unwrap()]));
    let calls = Arc::new(AtomicUsize::new(0));
    let listener = pool.on_pressure(5 * MIB, {
        let (pool, cache, calls) = (pool.clone(), Arc::clone(&cache), Arc::clone(&calls));
        move |pressure| {
            assert_eq!((pressure.held_bytes, pressure.allowed_bytes), (4 * MIB, 5 * MIB));
            assert!(pressure.held_bytes + pressure.wanted_bytes > pressure.allowed_bytes);
            calls.fetch_add(1, Ordering::Relaxed);
            cache.lock().unwrap().clear();
            // Grows the pool itself, by a region, and is not called for that.
            drop(pool.uncleared::<u8>(5 * MIB).unwrap());
            pool.trim();
            drop(pool.uncleared::<u8>(2 * MIB).unwrap());
        }
    });
    let block = pool.uncleared::<u8>(2 * MIB).unwrap();
    assert_eq!((calls.load(Ordering::Relaxed), pool.stats().held_bytes), (1, 4 * MIB));
    drop(listener);
    let more = pool.uncleared::<u8>(5 * MIB).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    drop((block, more));
}

#[test]
fn a_panic_of_a_listener_leaves_the_pool_as_it_was() {
    let pool = HybridMemoryPool::new(None);
    let _listener = pool.on_pressure(0, |_| panic!("no more"));
    for _ in 0..2 {
        let take = std::panic::AssertUnwindSafe(|| pool.zeroed::<u8>(1 << 17));
        assert!(std::panic::catch_unwind(take).is_err());
        assert_eq!(pool.stats().held_bytes, 0);
    }
}

#[test]
fn what_nobody_needs_any_more_goes_back() {
    let pool = HybridMemoryPool::new(None);
    let large: Vec<_> = (0..5).map(|i| pool.uncleared::<u8>((20 + 8 * i) * MIB).unwrap()).collect();
    let held = pool.stats().held_bytes;
    drop(large);
    assert_eq!(pool.stats().held_bytes, held);
    for _ in 0..40_000 {
        drop(pool.uncleared::<u8>(100_000).unwrap());
    }
    let stats = pool.stats();
    assert!(stats.held_bytes < 40 * MIB, "{stats:?}");
    assert_eq!(stats.held_bytes + stats.returned_bytes, held + 4 * MIB);
    assert!(stats.fragmentation() > 0.9);
}

#[test]
fn pages_are_not_kept() {
    let pool = HybridMemoryPool::new(None);
    let pages = pool.pages::<u8>(3 * MIB).unwrap();
    let zeros = pool.zeroed::<u8>(MIB).unwrap();
    assert_eq!((pages.as_ptr() as usize % 4096, zeros.as_ptr() as usize % 4096), (0, 0));
    assert_eq!(pool.stats().held_bytes, 4 * MIB);
    drop((pages, zeros));
    assert_eq!((pool.stats().held_bytes, pool.stats().returned_bytes), (0, 4 * MIB));
}

#[test]
fn what_is_live_shows_what_leaks() {
    let pool = HybridMemoryPool::new(None);
    let _before = (pool.zeroed::<u8>(100).unwrap(), pool.uncleared::<u8>(100_000).unwrap());
    let before = pool.live_blocks();
    assert_eq!(before.0, [(128, 1), (114_688, 1)]);
    let _leak = (pool.zeroed::<u8>(120).unwrap(), pool.zeroed::<u8>(4 * MIB).unwrap());
    let leaks = pool.live_blocks().since(&before);
    assert_eq!(leaks.to_string(), "1 x 128 bytes\n1 x 4194304 bytes\n");
}

#[test]
fn tensors_take_the_memory_of_the_process() {
    let ones = Tensor::ones([1 << 10, 1 << 10], DType::F32).unwrap();
    let sum = ones.add(&ones).unwrap();
    assert_eq!(sum.data().as_ptr() as usize % 64, 0);
    let LiveBlocks(live) = HybridMemoryPool::global().live_blocks();
    assert!(live.iter().any(|(bytes, count)| *bytes == 4 * MIB && *count >= 2), "{live:?}");
    let shared = Buffer::from(HybridMemoryPool::global().zeroed::<f32>(5).unwrap());
    assert_eq!(shared.slice(1..3)[..], [0.0; 2]);
}
