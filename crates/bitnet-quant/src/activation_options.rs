//! Int8 activations by other granularities and ranges than the kernels take, to compare and to calibrate.

use bitnet_core::{DisjointSlice, ThreadPool};

use crate::activation::MIN_ABSMAX;
use crate::spans;
use crate::{Clip, Granularity, Result, Rounding};

/// Options of [`quantize_activations_with`]; by default those of BitNet b1.58.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivationOptions {
    /// How much shares a scale; a row is a token.
    pub granularity: Granularity,
    /// How `x * scale` is rounded.
    pub rounding: Rounding,
    /// What of the range is kept.
    pub clip: Clip,
}

impl Default for ActivationOptions {
    fn default() -> Self {
        let (rounding, clip) = (Rounding::default(), Clip::default());
        Self { granularity: Granularity::Row, rounding, clip }
    }
}

/// Codes `[tokens, cols]` and scales of `x`: `scale = 127 / max(bound, 1e-5)`, `codes = clamp(round(x * scale), -128,
/// 127)`, so that `x` is about `codes / scale`. The bound is `max|x|` of what shares the scale, or what [`Clip`] says.
///
/// By default equal to [`crate::QuantizedActivations::quantize`]. Errors: [`crate::Error::InvalidClip`],
/// [`crate::Error::NotFinite`], [`crate::Error::Length`] for no values or groups of no columns.
#[expect(unsafe_code, reason = "threads write disjoint tokens")]
pub fn quantize_activations_with(
    pool: &ThreadPool,
    x: &[f32],
    cols: usize,
    options: &ActivationOptions,
) -> Result<(Vec<i8>, Vec<f32>)> {
    let &ActivationOptions { granularity, rounding, clip } = options;
    clip.check()?;
    assert!(cols > 0 && x.len().is_multiple_of(cols), "x is [tokens, cols]");
    let tokens = x.len() / cols;
    let token = |token: usize| &x[token * cols..][..cols];
    let read_row = |row: usize, out: &mut [f32]| out.copy_from_slice(token(row));
    let scale = |values: &[f32]| 127.0 / clip.bound(values).max(MIN_ABSMAX);
    let scales = spans::fit(pool, (tokens, cols), granularity, &read_row, scale)?;
    let columns = spans::columns(granularity, cols);
    let mut codes = vec![0; x.len()];
    let shared = DisjointSlice::new(&mut codes);
    pool.split(tokens, 1, |range| {
        for row in range {
            // SAFETY: each token belongs to one thread.
            let codes = unsafe { shared.part(row * cols..(row + 1) * cols) };
            let first = spans::first_of_row(granularity, row, columns.len());
            for (scale, columns) in scales[first..].iter().zip(&columns) {
                let place = (row * cols + columns.start) as u64;
                let x = token(row)[columns.clone()].iter().map(|x| x * scale);
                rounding.round(place, (-128.0, 127.0), x, 0, &mut codes[columns.clone()]);
            }
        }
    });
    Ok((codes, scales))
}

#[cfg(test)]
mod tests {
    use bitnet_core::{FloatKernels, Isa};

    use super::*;
    use crate::{Error, QuantizedActivations};

    fn run(x: &[f32], cols: usize, options: &ActivationOptions) -> Result<(Vec<i8>, Vec<f32>)> {
        quantize_activations_with(&ThreadPool::new(2).unwrap(), x, cols, options)
    }

    #[test]
    fn the_default_is_what_the_kernels_take() {
        let x: Vec<f32> = (0..30 * 70).map(|i| (i as f32 * 0.731).sin() * 7.3).collect();
        let mut expected = QuantizedActivations::default();
        let kernels = FloatKernels::new(Isa::Scalar).unwrap();
        expected.quantize(&ThreadPool::new(1).unwrap(), &kernels, &x, 70);
        let (codes, scales) = run(&x, 70, &ActivationOptions::default()).unwrap();
        assert_eq!((codes, &scales[..]), (expected.codes(), expected.scales()));
    }

    #[test]
    fn granularity_and_clip_by_hand() {
        let x = [1.0, -2.0, 0.5, 127.0, 4.0, 0.0, 0.0, 1.0];
        let with =
            |granularity, clip| ActivationOptions { granularity, clip, ..ActivationOptions::default() };
        let (codes, scales) = run(&x, 4, &with(Granularity::Tensor, Clip::None)).unwrap();
        assert_eq!((codes, scales), (vec![1, -2, 0, 127, 4, 0, 0, 1], vec![1.0]));
        let (codes, scales) = run(&x, 4, &with(Granularity::Group(2), Clip::None)).unwrap();
        assert_eq!((codes[..3].to_vec(), scales), (vec![64, -127, 0], vec![63.5, 1.0, 31.75, 127.0]));
        let (codes, scales) = run(&x, 4, &with(Granularity::Row, Clip::Magnitude(1.0))).unwrap();
        assert_eq!((codes, scales), (vec![127, -128, 64, 127, 127, 0, 0, 127], vec![127.0, 127.0]));
        // Of 0.5, 1, 2, 127 the lower two thirds end at 2, of 0, 0, 1, 4 at 1.
        let (_, scales) = run(&x, 4, &with(Granularity::Row, Clip::Quantile(2.0 / 3.0))).unwrap();
        assert_eq!(scales, [63.5, 127.0]);
        let error = run(&x, 4, &with(Granularity::Row, Clip::Quantile(1.5))).unwrap_err();
        assert_eq!(error, Error::InvalidClip(1.5));
    }
}
