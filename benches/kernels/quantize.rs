//! Quantization and packed formats, beside the speed at which this machine copies memory.
//!
//! Quantizing is timed in bytes of float32 weights, decoding and encoding in bytes of the format. The weights are larger
//! than the caches, and are read twice: for the scale, and for the codes.

use std::hint::black_box;

use bitnet_benchmarks::{Case, SHAPES};
use bitnet_core::{Buffer, DisjointSlice, ThreadPool};
use bitnet_quant::{Codec, Granularity, TernaryOptions, TernaryRule, quantize_matrix};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 12_800;
const COLS: usize = 10_240;

fn pools() -> impl Iterator<Item = ThreadPool> {
    let all = ThreadPool::default_threads();
    [1, all].into_iter().take(all.min(2)).map(|threads| ThreadPool::new(threads).unwrap())
}

fn weights() -> Vec<f32> {
    (0..ROWS * COLS).map(|i| (i.wrapping_mul(0x9e37_79b9) % 1009) as f32 / 504.5 - 1.0).collect()
}

#[expect(unsafe_code, reason = "threads write disjoint parts")]
fn copy(pool: &ThreadPool, from: &[f32], to: &mut [f32]) {
    let to = DisjointSlice::new(to);
    pool.split(from.len(), 1 << 18, |range| {
        // SAFETY: ranges of a split are disjoint.
        unsafe { to.part(range.clone()) }.copy_from_slice(&from[range]);
    });
}

fn quantize(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quantize_and_pack");
    let w = weights();
    group.throughput(Throughput::Bytes(size_of_val(&w[..]) as u64));
    let mut to = vec![0.0; w.len()];
    for pool in pools() {
        let threads = pool.threads();
        group.bench_function(BenchmarkId::new("copy", threads), |bencher| {
            bencher.iter(|| copy(&pool, black_box(&w), &mut to));
        });
        for (rule, granularity) in [
            (TernaryRule::Absmean, Granularity::Tensor),
            (TernaryRule::Absmean, Granularity::Row),
            (TernaryRule::Threshold, Granularity::Row),
        ] {
            let options = TernaryOptions { rule, granularity, ..TernaryOptions::default() };
            let name = format!("{}, {granularity}", rule.name());
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter(|| quantize_matrix(&pool, black_box(&w), COLS, &options).unwrap());
            });
        }
    }
}

fn codecs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let pool = ThreadPool::new(1).unwrap();
    let shape = SHAPES[2];
    let matrix = Case::new(shape, 1).unwrap().w;
    for codec in Codec::ALL.into_iter().filter(|codec| ![Codec::HfPacked, Codec::Bitmap].contains(codec)) {
        let bytes = Buffer::from(codec.encode(&pool, &matrix).unwrap());
        let decode = || codec.decode(&pool, shape.rows, shape.cols, black_box(&bytes)).unwrap();
        assert_eq!(decode().packed()[..], matrix.packed()[..], "{codec}");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("decode", codec), |bencher| bencher.iter(decode));
        group.bench_function(BenchmarkId::new("encode", codec), |bencher| {
            bencher.iter(|| codec.encode(&pool, black_box(&matrix)).unwrap());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).without_plots()
        .warm_up_time(std::time::Duration::from_millis(100))
        .measurement_time(std::time::Duration::from_millis(300));
    targets = quantize, codecs
}
criterion_main!(benches);
