//! Products with activations that stay floats, for models whose weights alone are ternary.
//!
//! A row is widened to the floats it stands for, then multiplied as a float matrix is: correct, not fast. What it
//! gives is what the float matrix gives, bit for bit; only memory is saved.

use std::cell::RefCell;

use bitnet_core::{DisjointSlice, FloatKernels, ThreadPool};

use crate::{Error, Result, TernaryMatrix};

thread_local! {
    /// Codes of a row and the weights they stand for; grown once for each thread.
    static ROW: RefCell<(Vec<u8>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// `out[t, r] = sum_c (W_q[r, c] * scale(r, c)) x[t, c] (+ bias[r])`, `[tokens, rows]`, for scales of any granularity.
///
/// Errors: [`Error::Length`] when `x`, bias or output do not fit.
#[expect(unsafe_code, reason = "threads write disjoint outputs")]
pub fn float_matmul(
    pool: &ThreadPool,
    kernels: &FloatKernels,
    w: &TernaryMatrix,
    x: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<()> {
    let (rows, cols) = (w.rows(), w.cols());
    let tokens = x.len() / cols.max(1);
    let check = |what, expected, got| {
        if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
    };
    check("elements of x", tokens.saturating_mul(cols), x.len())?;
    check("output", rows.saturating_mul(tokens), out.len())?;
    check("bias", rows, bias.map_or(rows, <[f32]>::len))?;
    let out = DisjointSlice::new(out);
    pool.split(rows, 16, |range| {
        ROW.with_borrow_mut(|(codes, weights)| {
            codes.resize(cols, 0);
            weights.resize(cols, 0.0);
            for row in range {
                w.read_row(row, codes);
                for (columns, scale) in w.scales().of_row(row, cols) {
                    for (weight, code) in weights[columns.clone()].iter_mut().zip(&codes[columns]) {
                        *weight = (f32::from(*code) - 1.0) * scale;
                    }
                }
                for (token, x) in x.chunks_exact(cols).enumerate() {
                    // Adding -0 changes nothing.
                    let y = kernels.dot_f32(weights, x) + bias.map_or(-0.0, |bias| bias[row]);
                    // SAFETY: column `row` of the output belongs to the thread that has the row.
                    unsafe { out.write(token * rows + row, y) };
                }
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use bitnet_core::{Buffer, DType, FloatMatrix, Isa, Tensor};
    use proptest::prelude::*;

    use super::*;
    use crate::Scales;

    proptest! {
        #[test]
        fn equals_the_product_with_the_float_matrix_bit_for_bit(
            rows in 1_usize..12, cols in 1_usize..200, tokens in 1_usize..4, group in 1_usize..90, seed in 0_usize..99,
        ) {
            let codes: Vec<i8> = (0..rows * cols).map(|i| ((i * i + seed) % 3) as i8 - 1).collect();
            let x: Vec<f32> = (0..tokens * cols).map(|i| ((i * 37 + seed) as f32).sin()).collect();
            let values = |n: usize| (0..n).map(|i| 0.013 + (i % 7) as f32).collect::<Vec<_>>();
            let pool = ThreadPool::new(2).unwrap();
            let kernels = FloatKernels::new(Isa::selected().unwrap()).unwrap();
            for scales in [
                Scales::Tensor(0.3),
                Scales::Rows(values(rows)),
                Scales::Groups { cols: group, values: values(rows * cols.div_ceil(group)) },
            ] {
                let w = TernaryMatrix::from_codes(rows, cols, &codes, scales).unwrap();
                let mut out = vec![0.0; rows * tokens];
                float_matmul(&pool, &kernels, &w, &x, None, &mut out).unwrap();
                let bytes: Vec<u8> = w.dequantize().iter().flat_map(|w| w.to_le_bytes()).collect();
                let tensor = Tensor::new(DType::F32, [rows, cols], Buffer::from(bytes)).unwrap();
                let mut expected = vec![0.0; rows * tokens];
                FloatMatrix::new(&tensor).unwrap().matmul(&pool, &kernels, &x, &mut expected);
                prop_assert_eq!(&out, &expected);
                let bias: Vec<f32> = (0..rows).map(|row| row as f32 / 3.0).collect();
                float_matmul(&pool, &kernels, &w, &x, Some(&bias), &mut out).unwrap();
                for (at, y) in out.iter().enumerate() {
                    prop_assert_eq!(*y, expected[at] + bias[at % rows]);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let w = TernaryMatrix::from_codes(2, 3, &[1; 6], 1.0).unwrap();
        let pool = ThreadPool::new(1).unwrap();
        let kernels = FloatKernels::new(Isa::Scalar).unwrap();
        let run = |x: usize, bias: Option<&[f32]>, out: usize| {
            float_matmul(&pool, &kernels, &w, &vec![0.0; x], bias, &mut vec![0.0; out])
        };
        assert!(run(4, None, 2).is_err() && run(3, None, 3).is_err() && run(3, Some(&[0.0]), 2).is_err());
        assert!(run(6, Some(&[0.0; 2]), 4).is_ok());
    }
}
