//! The memory pool beside the system's allocator, on recorded allocations and on small blocks.
//!
//! Whoever takes a block writes to every page of it, as whoever computes something does: the faults of new pages are
//! what allocators differ in. Each thread replays the whole trace. `record_allocations.rs` says what was recorded.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use bitnet_benchmarks::allocation_trace::{Allocation, AllocationTrace};
use bitnet_core::{HybridMemoryPool, PoolVec};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};

const PAGE: usize = 4096;

/// Who gives blocks.
trait Allocator: Sync {
    type Block;

    const NAME: &'static str;

    /// A block with something in each of its pages.
    fn take(&self, bytes: usize, zeroed: bool) -> Self::Block;
}

/// The pool of the process.
struct Pool;

impl Allocator for Pool {
    type Block = PoolVec<u8>;

    const NAME: &'static str = "pool";

    fn take(&self, bytes: usize, zeroed: bool) -> PoolVec<u8> {
        let pool = HybridMemoryPool::global();
        let mut block = if zeroed { pool.zeroed(bytes) } else { pool.uncleared(bytes) }.unwrap();
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        block
    }
}

/// `calloc`, as tensors did before there was a pool.
struct Zeroed;

impl Allocator for Zeroed {
    type Block = Vec<u8>;

    const NAME: &'static str = "system, zeroed";

    fn take(&self, bytes: usize, _: bool) -> Vec<u8> {
        let mut block = vec![0; bytes];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        block
    }
}

/// `malloc`, zeroed where that is asked for.
struct Uncleared;

impl Allocator for Uncleared {
    type Block = Vec<u8>;

    const NAME: &'static str = "system";

    fn take(&self, bytes: usize, zeroed: bool) -> Vec<u8> {
        if zeroed {
            return Zeroed.take(bytes, zeroed);
        }
        let mut block = Vec::with_capacity(bytes);
        let bytes = block.spare_capacity_mut().iter_mut();
        bytes.step_by(PAGE).for_each(|byte| *byte = MaybeUninit::new(1));
        block
    }
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "it is written")] [u8; 64]);

/// Blocks that start at a cache line, as those of the pool do; never zeroed.
struct Aligned;

impl Allocator for Aligned {
    type Block = Vec<Line>;

    const NAME: &'static str = "system, aligned";

    fn take(&self, bytes: usize, _: bool) -> Vec<Line> {
        let lines = bytes.div_ceil(64);
        let mut block = Vec::with_capacity(lines);
        let lines = block.spare_capacity_mut().iter_mut();
        lines.step_by(PAGE / 64).for_each(|line| *line = MaybeUninit::new(Line([1; 64])));
        block
    }
}

fn replay<A: Allocator>(allocator: &A, trace: &AllocationTrace) {
    let mut blocks = Vec::with_capacity(trace.allocations.len());
    for allocation in &trace.allocations {
        match *allocation {
            Allocation::Take { bytes, zeroed } => blocks.push(Some(black_box(allocator.take(bytes, zeroed)))),
            Allocation::Give { block } => blocks[block] = None,
        }
    }
}

fn replays<A: Allocator>(group: &mut BenchmarkGroup<'_, WallTime>, allocator: &A, trace: &AllocationTrace) {
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new(A::NAME, threads), |bencher| {
            bencher.iter(|| {
                std::thread::scope(|scope| {
                    (1..threads).for_each(|_| drop(scope.spawn(|| replay(allocator, trace))));
                    replay(allocator, trace);
                });
            });
        });
    }
}

fn traces(criterion: &mut Criterion) {
    for name in ["training", "generation"] {
        let file = format!("../../benches/record/allocations/{name}.txt");
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let trace: AllocationTrace = text.parse().unwrap();
        let mut group = criterion.benchmark_group(name);
        // Each page of the pool is new once.
        group.warm_up_time(Duration::from_secs(1));
        replays(&mut group, &Pool, &trace);
        replays(&mut group, &Zeroed, &trace);
        replays(&mut group, &Uncleared, &trace);
    }
}

/// Sixteen blocks of a size are taken, and given back in another order, a hundred times.
fn small_trace(bytes: usize) -> AllocationTrace {
    let once = |start: usize| {
        let take = (0..16).map(move |_| Allocation::Take { bytes, zeroed: false });
        take.chain((0..16).map(move |i| Allocation::Give { block: start + i * 7 % 16 }))
    };
    AllocationTrace::new((0..100).flat_map(|turn| once(turn * 16)))
}

fn small_blocks(criterion: &mut Criterion) {
    for bytes in [64, 1 << 10, 8 << 10, 64 << 10, 512 << 10] {
        let trace = small_trace(bytes);
        let mut group = criterion.benchmark_group(format!("1600 blocks of {bytes}"));
        replays(&mut group, &Pool, &trace);
        replays(&mut group, &Uncleared, &trace);
        replays(&mut group, &Aligned, &trace);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).without_plots()
        .warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(700));
    targets = traces, small_blocks
}
criterion_main!(benches);
