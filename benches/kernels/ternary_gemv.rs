//! The ternary product on the shapes of bitnet-b1.58-2B-4T, for every instruction set of this CPU, on one thread.
//!
//! Throughput is in bytes of packed weights. Each result is checked against the scalar reference before it is timed.

use std::hint::black_box;

use bitnet_benchmarks::{Case, SHAPES};
use bitnet_core::{Isa, ThreadPool};
use bitnet_quant::TernaryKernel;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A decoded token, and a piece of a prompt.
const TOKENS: [usize; 2] = [1, 16];

fn ternary_product(criterion: &mut Criterion) {
    let pool = ThreadPool::new(1).unwrap();
    let reference = TernaryKernel::new(Isa::Scalar).unwrap();
    for tokens in TOKENS {
        let mut group = criterion.benchmark_group(format!("ternary_product/{tokens}_tokens"));
        for shape in SHAPES {
            let Case { w, x } = Case::new(shape, tokens).unwrap();
            let mut expected = vec![0; shape.rows * tokens];
            reference.matmul_i32(&pool, &w, &x, &mut expected).unwrap();
            group.throughput(Throughput::Bytes(w.packed().len() as u64));
            for isa in Isa::available() {
                let kernel = TernaryKernel::new(isa).unwrap();
                let mut out = vec![0; expected.len()];
                kernel.matmul_i32(&pool, &w, &x, &mut out).unwrap();
                assert_eq!(out, expected, "{isa}");
                group.bench_function(BenchmarkId::new(isa.name(), shape.name), |bencher| {
                    bencher
                        .iter(|| kernel.matmul_i32(&pool, black_box(&w), black_box(&x), &mut out).unwrap());
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).without_plots()
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(500));
    targets = ternary_product
}
criterion_main!(benches);
