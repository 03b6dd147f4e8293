//! Products with matrices of any scales.
//!
//! The kernels apply one scale. A scale per row is applied to their exact sums; with a scale per group of columns there
//! is no one sum, and the product is written out: correct, not fast.

use bitnet_core::{DisjointSlice, ThreadPool};

use crate::{Error, QuantizedActivations, Result, Scales, TernaryKernel, TernaryMatrix};

/// `out[t, r] = sum over groups g of (W_q[r, g] . x_q[t, g]) * scale[r, g] / activation_scale[t] (+ bias[r])`,
/// `[tokens, rows]`. With one scale it is [`TernaryKernel::matmul`], bit for bit.
///
/// Errors: [`Error::Length`] when columns, bias or output do not fit.
pub fn scaled_matmul(
    kernel: &TernaryKernel,
    pool: &ThreadPool,
    w: &TernaryMatrix,
    x: &QuantizedActivations,
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<()> {
    let (rows, tokens) = (w.rows(), x.tokens());
    let check = |what, expected, got| {
        if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
    };
    check("columns of x", w.cols(), x.cols())?;
    check("output", rows.saturating_mul(tokens), out.len())?;
    check("bias", rows, bias.map_or(rows, <[f32]>::len))?;
    match w.scales() {
        Scales::Tensor(_) => return kernel.matmul(pool, w, x, bias, out),
        Scales::Rows(scales) => {
            let mut sums = vec![0; out.len()];
            kernel.matmul_i32(pool, w, x, &mut sums)?;
            for (at, (out, sum)) in out.iter_mut().zip(&sums).enumerate() {
                *out = *sum as f32 * (scales[at % rows] / x.scales()[at / rows]);
            }
        }
        Scales::Groups { .. } => group_product(pool, w, x, out),
    }
    for row in out.chunks_exact_mut(rows.max(1)) {
        row.iter_mut().zip(bias.into_iter().flatten()).for_each(|(out, bias)| *out += bias);
    }
    Ok(())
}

#[expect(unsafe_code, reason = "threads write disjoint outputs")]
fn group_product(pool: &ThreadPool, w: &TernaryMatrix, x: &QuantizedActivations, out: &mut [f32]) {
    let (rows, cols) = (w.rows(), w.cols());
    let out = DisjointSlice::new(out);
    pool.split(rows, 1, |range| {
        let mut codes = vec![0_u8; cols];
        for row in range {
            w.read_row(row, &mut codes);
            for token in 0..x.tokens() {
                let x_codes = x.token(token);
                let groups = w.scales().of_row(row, cols).map(|(columns, scale)| {
                    let pairs = codes[columns.clone()].iter().zip(&x_codes[columns]);
                    let sum: i32 = pairs.map(|(w, x)| (i32::from(*w) - 1) * i32::from(*x)).sum();
                    f64::from(sum) * f64::from(scale)
                });
                let y = (groups.sum::<f64>() / f64::from(x.scales()[token])) as f32;
                // SAFETY: each row belongs to one thread.
                unsafe { out.write(token * rows + row, y) };
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use bitnet_core::Isa;
    use proptest::prelude::*;

    use super::*;

    fn run(w: &TernaryMatrix, x: &QuantizedActivations, bias: Option<&[f32]>) -> Vec<f32> {
        let kernel = TernaryKernel::new(Isa::selected().unwrap()).unwrap();
        let mut out = vec![0.0; w.rows() * x.tokens()];
        scaled_matmul(&kernel, &ThreadPool::new(2).unwrap(), w, x, bias, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn every_granularity_follows_the_formula(
            rows in 1_usize..12, cols in 1_usize..70, tokens in 1_usize..6, group in 1_usize..20, seed in 0_usize..99,
        ) {
            let codes: Vec<i8> = (0..rows * cols).map(|i| ((i * i + seed) % 3) as i8 - 1).collect();
            let x: Vec<i8> = (0..tokens * cols).map(|i| ((i * 37 + seed) % 256) as u8 as i8).collect();
            let x = QuantizedActivations::from_codes(&x, cols);
            let bias: Vec<f32> = (0..rows).map(|row| row as f32).collect();
            let values = |n: usize| (0..n).map(|i| 0.25 + (i % 7) as f32).collect::<Vec<_>>();
            let all = [
                Scales::Tensor(0.5),
                Scales::Rows(values(rows)),
                Scales::Groups { cols: group, values: values(rows * cols.div_ceil(group)) },
            ];
            for scales in all {
                let w = TernaryMatrix::from_codes(rows, cols, &codes, scales).unwrap();
                let y = run(&w, &x, Some(&bias));
                let dense = w.dequantize();
                for (at, y) in y.iter().enumerate() {
                    let (token, row) = (at / rows, at % rows);
                    let w = dense[row * cols..][..cols].iter().map(|w| f64::from(*w));
                    let sum: f64 = w.zip(x.token(token)).map(|(w, x)| w * f64::from(*x)).sum();
                    let expected = sum + f64::from(bias[row]);
                    prop_assert!((f64::from(*y) - expected).abs() <= 1e-6 * expected.abs().max(1.0));
                }
            }
            let one = TernaryMatrix::from_codes(rows, cols, &codes, 0.3).unwrap();
            let equal = one.clone().with_scales(Scales::Rows(vec![0.3; rows])).unwrap();
            prop_assert_eq!(run(&one, &x, Some(&bias)), run(&equal, &x, Some(&bias)));
        }
    }

    #[test]
    fn the_packed_kernels_refuse_several_scales() {
        let w = TernaryMatrix::from_codes(2, 1, &[1, -1], Scales::Rows(vec![1.0, 2.0])).unwrap();
        let pool = ThreadPool::new(1).unwrap();
        let packed = crate::PackedMatrix::new(&pool, &w, crate::Order::Panels, crate::Packing::Bits2);
        let error = packed.unwrap_err().to_string();
        assert_eq!(error, "this product takes one scale; the matrix has a scale per row");
        let kernel = TernaryKernel::new(Isa::Scalar).unwrap();
        let x = QuantizedActivations::from_codes(&[1], 1);
        assert!(matches!(kernel.matmul(&pool, &w, &x, None, &mut [0.0; 2]), Err(Error::Granularity { .. })));
    }
}
