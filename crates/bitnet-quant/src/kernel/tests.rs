//! One suite for every instruction set and layout, against the definition.

use bitnet_core::ThreadPool;
use proptest::prelude::*;

use super::self_test::{SelfTest, compare};
use super::*;
use crate::{Order, PackedMatrix, SparseScratch};

fn check(rows: usize, cols: usize, codes: &[i8], x: &[i8], threads: usize) {
    let w = TernaryMatrix::from_codes(rows, cols, codes, 1.0).unwrap();
    let x = QuantizedActivations::from_codes(x, cols);
    let pool = ThreadPool::new(threads).unwrap();
    for isa in Isa::available() {
        let mut outcome = SelfTest { isa, products: 0, wrong: 0 };
        compare(&pool, isa, &w, &x, &mut outcome).unwrap();
        assert_eq!(outcome.wrong, 0, "{isa} {rows}x{cols} {} tokens", x.tokens());
        assert!(outcome.products >= 4 * rows * x.tokens());
    }
}

fn activations(len: usize) -> impl Strategy<Value = Vec<i8>> {
    let value = prop_oneof![2 => Just(0_i8), 3 => any::<i8>(), 1 => Just(-128_i8), 1 => Just(127_i8)];
    prop::collection::vec(value, len)
}

proptest! {
    #[test]
    fn every_isa_and_layout_equals_the_definition(
        (rows, cols, codes, x) in (1_usize..100, 1_usize..400, 1_usize..20).prop_flat_map(|(rows, cols, tokens)| (
            Just(rows),
            Just(cols),
            prop::collection::vec(-1_i8..=1, rows * cols),
            activations(tokens * cols),
        )),
        threads in 1_usize..4,
    ) {
        check(rows, cols, &codes, &x, threads);
    }

    #[test]
    fn one_token_equals_the_definition(
        (rows, cols, codes, x) in (1_usize..400, 1_usize..700).prop_flat_map(|(rows, cols)| (
            Just(rows),
            Just(cols),
            prop::collection::vec(-1_i8..=1, rows * cols),
            activations(cols),
        )),
        threads in 1_usize..4,
    ) {
        check(rows, cols, &codes, &x, threads);
    }
}

#[test]
fn lengths_around_every_line_and_tile() {
    let cols =
        [1, 3, 4, 15, 16, 17, 63, 64, 65, 255, 256, 257, 319, 320, 321, 1031, 2559, 2560, 2561, 5121, 6912];
    for cols in cols {
        let codes: Vec<i8> = (0..5 * cols).map(|i| (i * 7 % 3) as i8 - 1).collect();
        for tokens in [1, 5] {
            let x: Vec<i8> = (0..tokens * cols).map(|i| (i * 31) as i8).collect();
            check(5, cols, &codes, &x, 1);
        }
    }
    for rows in [15, 16, 17, 63, 64, 65, 79, 80, 81, 160, 257, 320, 321, 2560] {
        let codes: Vec<i8> = (0..rows * 37).map(|i| (i * 11 % 3) as i8 - 1).collect();
        for tokens in [1, 2, 4, 12, 13, 29] {
            let x: Vec<i8> = (0..tokens * 37).map(|i| (i * 31) as i8).collect();
            check(rows, 37, &codes, &x, 2);
        }
    }
}

#[test]
fn rows_of_zeros_and_inputs_of_zeros_give_zero() {
    check(70, 130, &[0; 70 * 130], &[-128; 130], 2);
    check(70, 130, &[1; 70 * 130], &[0; 130], 2);
    check(70, 130, &[-1; 70 * 130], &[0; 5 * 130], 2);
}

#[test]
fn extremes_do_not_overflow() {
    let cols = 140_000;
    let codes: Vec<i8> = [1, -1, 0].iter().flat_map(|&code| std::iter::repeat_n(code, cols)).collect();
    for x in [-128, 127] {
        check(3, cols, &codes, &vec![x; cols], 1);
    }
    // Beyond what one register of sums can be added up to, with codes in the highest two bits.
    check(1, 600_000, &vec![1; 600_000], &vec![-128; 600_000], 1);
}

#[test]
fn no_row_and_no_column_are_no_work() {
    let pool = ThreadPool::new(2).unwrap();
    let w = TernaryMatrix::from_codes(3, 5, &[1; 15], 1.0).unwrap();
    let x = QuantizedActivations::from_codes(&[0; 5], 5);
    for isa in Isa::available() {
        let kernel = TernaryKernel::new(isa).unwrap();
        let rows = PackedMatrix::new(&pool, &w, Order::Rows, Packing::Bits2).unwrap();
        kernel.row_product(&pool, &rows, x.one(0), &[], |_, _| panic!("no row")).unwrap();
        let columns = PackedMatrix::new(&pool, &w, Order::Columns, Packing::Bits2).unwrap();
        let mut out = [1.0; 3];
        let mut scratch = SparseScratch::new(3, 2);
        kernel.column_product(&pool, &columns, x.one(0), &[], &mut scratch, &mut out).unwrap();
        assert_eq!(out, [0.0; 3]);
    }
}

#[test]
fn scaling_and_bias_follow_the_formula() {
    let w = TernaryMatrix::from_codes(2, 2, &[1, -1, 1, 1], 0.5).unwrap();
    let mut x = QuantizedActivations::default();
    let floats = bitnet_core::FloatKernels::new(Isa::Scalar).unwrap();
    let pool = ThreadPool::new(1).unwrap();
    x.quantize(&pool, &floats, &[1.0, -0.5], 2);
    // x_q = [127, -64] (63.5 rounds to even).
    let expected = [191.0 * (0.5 / 127.0) + 10.0, 63.0 * (0.5 / 127.0)];
    for isa in Isa::available() {
        let kernel = TernaryKernel::new(isa).unwrap();
        let mut out = [0.0; 2];
        kernel.matmul(&pool, &w, &x, Some(&[10.0, 0.0]), &mut out).unwrap();
        assert_eq!(out, expected);
        let packed = PackedMatrix::new(&pool, &w, Order::Panels, Packing::Bits2).unwrap();
        let mut other = [0.0; 2];
        let products = [
            Product { w: &packed, bias: Some(&[10.0, 0.0]), out: &mut out, then: Then::Store },
            Product { w: &packed, bias: None, out: &mut other, then: Then::Store },
        ];
        kernel.products(&pool, &x, products).unwrap();
        assert_eq!((out, other[0]), (expected, 191.0 * (0.5 / 127.0)));
        for (bias, expected) in
            [(None, 4.0 * 191.0 * (0.5 / 127.0)), (Some(&[10.0, 0.0][..]), 4.0 * expected[0])]
        {
            let mut gate = [2.0, -3.0];
            let product = Product { w: &packed, bias, out: &mut gate, then: Then::Relu2Gate };
            kernel.products(&pool, &x, [product]).unwrap();
            assert_eq!(gate, [expected, 0.0]);
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let w = TernaryMatrix::from_codes(1, 2, &[1, 1], 1.0).unwrap();
    let kernel = TernaryKernel::new(Isa::Scalar).unwrap();
    let pool = ThreadPool::new(1).unwrap();
    let x = QuantizedActivations::from_codes(&[0; 3], 3);
    let error = kernel.matmul_i32(&pool, &w, &x, &mut [0]).unwrap_err();
    assert_eq!(error.to_string(), "columns of x: expected 2, got 3");
    let x = QuantizedActivations::from_codes(&[0; 2], 2);
    assert!(kernel.matmul_i32(&pool, &w, &x, &mut [0; 3]).is_err());
    assert!(kernel.matmul(&pool, &w, &x, Some(&[0.0; 2]), &mut [0.0]).is_err());
}
