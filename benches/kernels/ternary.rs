//! Every kernel on the shapes of bitnet-b1.58-2B-4T, for every instruction set of this CPU, on one thread.
//!
//! Decoding is timed in bytes of prepared weights, prefill in multiply-accumulates ("elements"); the peaks of the
//! machine are printed first. Each result is checked against the definition before it is timed.

use std::hint::black_box;

use bitnet_benchmarks::{Case, SHAPES, Shape};
use bitnet_core::bandwidth::ReadProbe;
use bitnet_core::{DisjointSlice, FloatKernels, Isa, ThreadPool};
use bitnet_quant::kernel::{definition, int8_peak_gmac_s};
use bitnet_quant::{
    CompactRows, Order, PackedMatrix, Packing, Product, QuantizedActivations, RoundedActivations, ScoreBlock,
    SparseScratch, TernaryKernel, Then,
};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Tokens of a piece of a prompt.
const PROMPT: usize = 128;
/// Rows of a part of the head.
const HEAD: Shape = Shape { name: "head", rows: 8192, cols: 2560 };

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn pool() -> ThreadPool {
    ThreadPool::new(1).unwrap()
}

/// The definition as floats; the scales of the cases are 1.
fn expected(case: &Case) -> Vec<f32> {
    definition(&case.w, &case.x).into_iter().map(|sum| sum as f32).collect()
}

fn id(isa: Isa, packing: Packing, shape: Shape) -> BenchmarkId {
    BenchmarkId::new(format!("{isa}/{packing}"), shape.name)
}

/// Every instruction set of this CPU with every packing it reads.
fn kernels() -> impl Iterator<Item = (TernaryKernel, Packing)> {
    Isa::available().into_iter().flat_map(|isa| {
        let kernel = TernaryKernel::new(isa).unwrap();
        Packing::ALL.into_iter().filter(move |packing| kernel.supports(*packing)).map(move |p| (kernel, p))
    })
}

fn peaks(_: &mut Criterion) {
    let (pool, isa) = (pool(), Isa::selected().unwrap());
    let bandwidth = ReadProbe::new(&pool, 1 << 30).unwrap().gb_per_s(&pool, 5);
    println!("this machine, one thread: reads {bandwidth:.1} GB/s");
    for isa in Isa::available() {
        println!("  {isa}: int8 peak {:.0} GMAC/s", int8_peak_gmac_s(isa, &pool).unwrap());
    }
    println!("  selected: {isa}");
}

/// One token, all rows.
fn decode_dense(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("decode_dense");
    for shape in SHAPES {
        let case = Case::new(shape, 1).unwrap();
        let expected = expected(&case);
        for (kernel, packing) in kernels() {
            let w = PackedMatrix::new(&pool, &case.w, Order::Panels, packing).unwrap();
            let mut out = vec![0.0; shape.rows];
            let mut run = || {
                let product = Product { w: black_box(&w), bias: None, out: &mut out, then: Then::Store };
                kernel.products(&pool, black_box(&case.x), [product]).unwrap();
            };
            run();
            group.throughput(Throughput::Bytes(w.data().len() as u64));
            group.bench_function(id(kernel.isa(), packing, shape), |bencher| bencher.iter(&mut run));
            assert_eq!(out, expected, "{}", kernel.isa());
        }
    }
}

/// One token, every other row of the up projection.
fn decode_rows(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("decode_rows");
    let shape = SHAPES[2];
    let case = Case::new(shape, 1).unwrap();
    let rows: Vec<u32> =
        (0..shape.rows as u32).filter(|row| row.wrapping_mul(0x9e37_79b9) >> 31 == 0).collect();
    let all = expected(&case);
    let expected: Vec<f32> = rows.iter().map(|&row| all[row as usize]).collect();
    for (kernel, packing) in kernels() {
        let w = PackedMatrix::new(&pool, &case.w, Order::Rows, packing).unwrap();
        let mut out = vec![0.0; rows.len()];
        group.throughput(Throughput::Bytes((rows.len() * w.unit_bytes()) as u64));
        group.bench_function(id(kernel.isa(), packing, shape), |bencher| {
            let out = DisjointSlice::new(&mut out);
            bencher.iter(|| {
                let emit = |range, products: &mut [f32]| {
                    #[expect(unsafe_code, reason = "threads write disjoint pieces")]
                    // SAFETY: every piece of the list is given once.
                    unsafe { out.part(range) }.copy_from_slice(products);
                };
                kernel.row_product(&pool, black_box(&w), case.x.one(0), &rows, emit).unwrap();
            });
        });
        assert_eq!(out, expected, "{}", kernel.isa());
    }
}

/// One token, a third of the columns of the down projection.
fn decode_columns(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("decode_columns");
    let shape = SHAPES[3];
    let Case { w, x } = Case::new(shape, 1).unwrap();
    let is_kept = |col: u32| col.wrapping_mul(0x9e37_79b9) < u32::MAX / 3;
    let x: Vec<i8> = (0..).zip(x.token(0)).map(|(col, x)| if is_kept(col) { *x } else { 0 }).collect();
    let columns: Vec<u32> = (0..).zip(&x).filter(|(_, x)| **x != 0).map(|(col, _)| col).collect();
    let case = Case { w, x: QuantizedActivations::from_codes(&x, shape.cols) };
    let expected = expected(&case);
    for (kernel, packing) in kernels() {
        let w = PackedMatrix::new(&pool, &case.w, Order::Columns, packing).unwrap();
        let mut scratch = SparseScratch::new(shape.rows, 1);
        let mut out = vec![0.0; shape.rows];
        group.throughput(Throughput::Bytes((columns.len() * w.unit_bytes()) as u64));
        group.bench_function(id(kernel.isa(), packing, shape), |bencher| {
            bencher.iter(|| {
                kernel
                    .column_product(&pool, black_box(&w), case.x.one(0), &columns, &mut scratch, &mut out)
                    .unwrap();
            });
        });
        assert_eq!(out, expected, "{}", kernel.isa());
    }
}

/// One token, rows of the head in three bits.
fn decode_head(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("decode_head");
    let value = |i: usize| (i.wrapping_mul(0x9e37_79b9) % 1009) as f32 / 504.5 - 1.0;
    let read_row = |row: usize, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(col, out)| *out = value(row * HEAD.cols + col));
    };
    let floats = FloatKernels::new(Isa::Scalar).unwrap();
    let kernel = TernaryKernel::new(Isa::Scalar).unwrap();
    let head =
        CompactRows::new(&pool, &floats, &kernel, (HEAD.rows, HEAD.cols), read_row, |_| {}).unwrap().unwrap();
    let x: Vec<f32> = (0..HEAD.cols).map(value).collect();
    let mut rounded = [RoundedActivations::default()];
    let mut blocks = vec![ScoreBlock::default(); head.score_blocks()];
    let mut scores = |isa: Isa, out: &mut [f32]| {
        let kernel = TernaryKernel::new(isa).unwrap();
        head.scores(&pool, &kernel, black_box(&x), &mut rounded, out, &mut blocks);
    };
    let mut expected = vec![0.0; HEAD.rows];
    scores(Isa::Scalar, &mut expected);
    let mut out = expected.clone();
    group.throughput(Throughput::Bytes(head.size_bytes() as u64));
    for isa in Isa::available() {
        group.bench_function(BenchmarkId::new(isa.name(), HEAD.name), |bencher| {
            bencher.iter(|| scores(isa, &mut out));
        });
        assert_eq!(out, expected, "{isa}");
    }
}

/// Many tokens, from the order that each projection is in.
fn prefill(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group(format!("prefill_{PROMPT}"));
    for (shape, order) in SHAPES.into_iter().zip([Order::Panels, Order::Panels, Order::Rows, Order::Columns])
    {
        let case = Case::new(shape, PROMPT).unwrap();
        let expected = definition(&case.w, &case.x);
        for (kernel, packing) in kernels().filter(|(kernel, _)| kernel.isa() != Isa::Scalar) {
            let w = PackedMatrix::new(&pool, &case.w, order, packing).unwrap();
            prefill_case(&mut group, &pool, &kernel, (shape, packing), &w, &case.x, &expected);
        }
    }
}

fn prefill_case(
    group: &mut Group<'_>,
    pool: &ThreadPool,
    kernel: &TernaryKernel,
    (shape, packing): (Shape, Packing),
    w: &PackedMatrix,
    x: &QuantizedActivations,
    expected: &[i32],
) {
    let mut out = vec![0; expected.len()];
    kernel.packed_matmul_i32(pool, w, x, &mut out).unwrap();
    assert_eq!(out, expected, "{}", kernel.isa());
    group.throughput(Throughput::Elements((shape.rows * shape.cols * PROMPT) as u64));
    group.bench_function(id(kernel.isa(), packing, shape), |bencher| {
        bencher.iter(|| kernel.packed_matmul_i32(pool, black_box(w), black_box(x), &mut out).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).without_plots()
        .warm_up_time(std::time::Duration::from_millis(100))
        .measurement_time(std::time::Duration::from_millis(300));
    targets = peaks, decode_dense, decode_rows, decode_columns, decode_head, prefill
}
criterion_main!(benches);
