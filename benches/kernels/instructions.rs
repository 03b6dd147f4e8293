//! One kernel, for valgrind to count its instructions: see `benches/python/instructions.py`.
//!
//! Without an argument it prints the names of the cases. The result of a case is checked once it is counted.

use std::hint::black_box;

use bitnet_benchmarks::{Case, Shape};
use bitnet_core::{FloatKernels, Isa, POSITIONS, ThreadPool};
use bitnet_quant::kernel::definition;
use bitnet_quant::{
    CompactRows, Order, PackedMatrix, Packing, Product, RoundedActivations, ScoreBlock, SparseScratch,
    TernaryKernel, Then,
};

const SHAPE: Shape = Shape { name: "part", rows: 640, cols: 2560 };
const PROMPT: usize = 24;

/// A case by name.
type Named = (&'static str, fn());

const CASES: [Named; 6] = [
    ("decode_dense", decode_dense),
    ("decode_rows", decode_rows),
    ("decode_columns", decode_columns),
    ("decode_head", decode_head),
    ("prefill", prefill),
    ("attention", attention),
];

/// What valgrind counts, by this name.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
}

fn kernel() -> TernaryKernel {
    TernaryKernel::new(Isa::selected().unwrap()).unwrap()
}

/// Products of some tokens with a matrix in two bits.
fn products(order: Order, tokens: usize) {
    let pool = ThreadPool::new(1).unwrap();
    let case = Case::new(SHAPE, tokens).unwrap();
    let w = PackedMatrix::new(&pool, &case.w, order, Packing::Bits2).unwrap();
    let kernel = kernel();
    let mut out = vec![0.0; tokens * SHAPE.rows];
    let mut run = || {
        let product = Product { w: black_box(&w), bias: None, out: &mut out, then: Then::Store };
        kernel.products(&pool, black_box(&case.x), [product]).unwrap();
    };
    run();
    counted(&mut run);
    let expected: Vec<f32> = definition(&case.w, &case.x).into_iter().map(|sum| sum as f32).collect();
    assert_eq!(out, expected);
}

fn decode_dense() {
    products(Order::Panels, 1);
}

fn prefill() {
    products(Order::Rows, PROMPT);
}

fn decode_rows() {
    let pool = ThreadPool::new(1).unwrap();
    let case = Case::new(SHAPE, 1).unwrap();
    let w = PackedMatrix::new(&pool, &case.w, Order::Rows, Packing::Bits2).unwrap();
    let kernel = kernel();
    let rows: Vec<u32> = (0..SHAPE.rows as u32).step_by(2).collect();
    let expected = definition(&case.w, &case.x);
    let product = |emit: &(dyn Fn(std::ops::Range<usize>, &mut [f32]) + Sync)| {
        kernel.row_product(&pool, black_box(&w), case.x.one(0), &rows, emit).unwrap();
    };
    product(&|range, products| {
        for (product, row) in products.iter().zip(&rows[range]) {
            assert_eq!(*product, expected[*row as usize] as f32);
        }
    });
    counted(&mut || {
        product(&|_, products| {
            black_box(products);
        });
    });
}

fn decode_columns() {
    let pool = ThreadPool::new(1).unwrap();
    let case = Case::new(SHAPE, 1).unwrap();
    let w = PackedMatrix::new(&pool, &case.w, Order::Columns, Packing::Bits2).unwrap();
    let kernel = kernel();
    let nonzero = |col: &u32| case.x.token(0)[*col as usize] != 0;
    let columns: Vec<u32> = (0..SHAPE.cols as u32).filter(nonzero).collect();
    let (mut scratch, mut out) = (SparseScratch::new(SHAPE.rows, 1), vec![0.0; SHAPE.rows]);
    let mut run = || {
        kernel.column_product(&pool, black_box(&w), case.x.one(0), &columns, &mut scratch, &mut out).unwrap();
    };
    run();
    counted(&mut run);
    let expected: Vec<f32> = definition(&case.w, &case.x).into_iter().map(|sum| sum as f32).collect();
    assert_eq!(out, expected);
}

fn decode_head() {
    let pool = ThreadPool::new(1).unwrap();
    let value = |i: usize| (i.wrapping_mul(0x9e37_79b9) % 1009) as f32 / 504.5 - 1.0;
    let read_row = |row: usize, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(col, out)| *out = value(row * SHAPE.cols + col));
    };
    let floats = FloatKernels::new(Isa::selected().unwrap()).unwrap();
    let shape = (SHAPE.rows, SHAPE.cols);
    let kernel = kernel();
    let head = CompactRows::new(&pool, &floats, &kernel, shape, read_row, |_| {}).unwrap().unwrap();
    let x: Vec<f32> = (0..SHAPE.cols).map(value).collect();
    let (mut rounded, mut scores) = ([RoundedActivations::default()], vec![0.0; SHAPE.rows]);
    let mut blocks = vec![ScoreBlock::default(); head.score_blocks()];
    let mut run = |kernel: TernaryKernel, scores: &mut [f32]| {
        head.scores(&pool, &kernel, black_box(&x), &mut rounded, scores, &mut blocks);
        assert!(rounded[0].margin().is_some());
    };
    let mut expected = scores.clone();
    run(TernaryKernel::new(Isa::Scalar).unwrap(), &mut expected);
    run(kernel, &mut scores);
    counted(&mut || run(kernel, &mut scores));
    assert_eq!(scores, expected);
}

/// Four heads of one token over 64 positions.
fn attention() {
    const HEAD_DIM: usize = 128;
    let floats = FloatKernels::new(Isa::selected().unwrap()).unwrap();
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.37).sin()).collect() };
    let positions = 4 * POSITIONS;
    let (q, cached) = (values(4 * HEAD_DIM), values(positions * HEAD_DIM));
    let (mut scores, mut totals) = (vec![0.0; 4 * positions], [0.0; 4]);
    let mut out = vec![0.0; 4 * HEAD_DIM];
    let mut run = || {
        floats.scores(black_box(&q), HEAD_DIM, &cached, 0.1, &mut scores, positions);
        for scores in scores.chunks_exact_mut(positions) {
            let max = floats.max(scores, f32::NEG_INFINITY);
            floats.softmax_weights(scores, max);
        }
        floats.add_weighted(&mut out, &scores, positions, &cached, &mut totals);
    };
    run();
    counted(&mut run);
    assert!(out.iter().all(|x| x.is_finite()) && totals.iter().all(|total| *total >= 1.0));
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let Some(name) = wanted.first() else {
        for (name, _) in CASES {
            println!("{name}");
        }
        return;
    };
    let (_, run) = CASES.iter().find(|(case, _)| case == name).expect("the name of a case");
    run();
}
