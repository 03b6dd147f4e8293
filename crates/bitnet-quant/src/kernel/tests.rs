//! One suite for every instruction set, against sums written out.

use bitnet_core::ThreadPool;
use proptest::prelude::*;

use super::*;

/// `W_q . x_q` from the definition: unpacked codes, 64-bit sums.
fn naive(w: &TernaryMatrix, x: &QuantizedActivations) -> Vec<i32> {
    let mut out = Vec::new();
    for token in 0..x.tokens() {
        for row in 0..w.rows() {
            let sum: i64 =
                w.row_codes(row).zip(x.token(token)).map(|(w, &x)| i64::from(w) * i64::from(x)).sum();
            out.push(i32::try_from(sum).unwrap());
        }
    }
    out
}

fn check(rows: usize, cols: usize, codes: &[i8], x: Vec<i8>, threads: usize) {
    let w = TernaryMatrix::from_codes(rows, cols, codes, 1.0).unwrap();
    let x = QuantizedActivations::from_codes(x, cols);
    let expected = naive(&w, &x);
    let pool = ThreadPool::new(threads).unwrap();
    for isa in Isa::available() {
        let mut out = vec![i32::MIN; expected.len()];
        TernaryKernel::new(isa).unwrap().matmul_i32(&pool, &w, &x, &mut out).unwrap();
        assert_eq!(out, expected, "{isa} {rows}x{cols} {} tokens", x.tokens());
    }
}

proptest! {
    #[test]
    fn every_isa_equals_the_definition(
        (rows, cols, codes, x) in (1_usize..40, 1_usize..300, 1_usize..10).prop_flat_map(|(rows, cols, tokens)| (
            Just(rows),
            Just(cols),
            prop::collection::vec(-1_i8..=1, rows * cols),
            prop::collection::vec(any::<i8>(), tokens * cols),
        )),
        threads in 1_usize..4,
    ) {
        check(rows, cols, &codes, x, threads);
    }
}

#[test]
fn lengths_around_every_vector_width() {
    for cols in [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 1031, 2560, 6912] {
        let codes: Vec<i8> = (0..5 * cols).map(|i| (i * 7 % 3) as i8 - 1).collect();
        let x: Vec<i8> = (0..5 * cols).map(|i| (i * 31) as i8).collect();
        check(5, cols, &codes, x, 1);
    }
}

#[test]
fn extremes_do_not_overflow() {
    for (code, x) in [(1_i8, -128_i8), (-1, -128), (1, 127), (-1, 127), (0, -128)] {
        let cols = 140_000;
        check(2, cols, &vec![code; 2 * cols], vec![x; cols], 1);
    }
}

#[test]
fn scaling_and_bias_follow_the_formula() {
    let w = TernaryMatrix::from_codes(2, 2, &[1, -1, 1, 1], 0.5).unwrap();
    let mut x = QuantizedActivations::default();
    let floats = bitnet_core::FloatKernels::new(Isa::Scalar).unwrap();
    let pool = ThreadPool::new(1).unwrap();
    x.quantize(&pool, &floats, &[1.0, -0.5], 2);
    let mut out = [0.0; 2];
    let kernel = TernaryKernel::new(Isa::Scalar).unwrap();
    // x_q = [127, -64] (63.5 rounds to even).
    kernel.matmul(&pool, &w, &x, Some(&[10.0, 0.0]), &mut out).unwrap();
    assert_eq!(out, [191.0 * (0.5 / 127.0) + 10.0, 63.0 * (0.5 / 127.0)]);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let w = TernaryMatrix::from_codes(1, 2, &[1, 1], 1.0).unwrap();
    let kernel = TernaryKernel::new(Isa::Scalar).unwrap();
    let pool = ThreadPool::new(1).unwrap();
    let x = QuantizedActivations::from_codes(vec![0; 3], 3);
    let error = kernel.matmul_i32(&pool, &w, &x, &mut [0]).unwrap_err();
    assert_eq!(error.to_string(), "columns of x: expected 2, got 3");
    let x = QuantizedActivations::from_codes(vec![0; 2], 2);
    assert!(kernel.matmul_i32(&pool, &w, &x, &mut [0; 3]).is_err());
    assert!(kernel.matmul(&pool, &w, &x, Some(&[0.0; 2]), &mut [0.0]).is_err());
}
