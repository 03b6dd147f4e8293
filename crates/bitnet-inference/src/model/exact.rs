//! Float matrices that are ternary already: `codes * scale`, written as floats.
//!
//! `TriLM` has a scale for each part that a device held in training, a block of rows or of columns; others have one
//! for each group of columns, or a single one. What is found stands for the same floats, bit for bit.

use bitnet_core::FloatMatrix;
use bitnet_quant::{Scales, TernaryMatrix};

/// The most parts of columns with a scale each that are looked for.
const MOST_PARTS: usize = 16;
/// Narrower groups of columns would find a scale in any floats.
const NARROWEST: usize = 32;

/// The matrix, if all its weights are 0 or a number with either sign that its rows or groups of columns share, the
/// widest groups first.
///
/// Taking the mean of such weights for their scale, as for masters, would make them smaller.
pub(crate) fn exact(matrix: &FloatMatrix) -> Option<TernaryMatrix> {
    widths(matrix.cols()).into_iter().find_map(|width| with_groups(matrix, width))
}

/// The widths of groups that are looked for, the widest first.
fn widths(cols: usize) -> Vec<usize> {
    let parts =
        (2..=MOST_PARTS).filter(move |parts| cols.is_multiple_of(*parts)).map(move |parts| cols / parts);
    let narrow = [256, 128, 64, 32].into_iter().filter(move |width| *width < cols);
    let mut widths: Vec<usize> =
        parts.chain(narrow).filter(|width| *width >= NARROWEST).chain([cols]).collect();
    widths.sort_unstable_by(|a, b| b.cmp(a));
    widths.dedup();
    widths
}

fn with_groups(matrix: &FloatMatrix, width: usize) -> Option<TernaryMatrix> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    let mut weights = vec![0.0; cols];
    for row in 0..rows {
        matrix.read_row(row, &mut weights);
        for group in weights.chunks(width.max(1)) {
            scales.push(magnitude(group)?);
            codes.extend(group.iter().map(|w| i8::from(*w > 0.0) - i8::from(*w < 0.0)));
        }
    }
    // Nothing says what a code of a matrix of zeros would stand for; in a group of zeros any scale does.
    let first = scales.iter().copied().find(|scale| *scale > 0.0)?;
    let is_one = scales.iter().all(|scale| *scale == 0.0 || *scale == first);
    let scales = if is_one {
        Scales::Tensor(first)
    } else {
        scales.iter_mut().filter(|scale| **scale == 0.0).for_each(|scale| *scale = first);
        if width == cols { Scales::Rows(scales) } else { Scales::Groups { cols: width, values: scales } }
    };
    TernaryMatrix::from_codes(rows, cols, &codes, scales).ok()
}

/// The magnitude of all weights that are not 0, if they share one; 0 if there are none.
fn magnitude(weights: &[f32]) -> Option<f32> {
    let scale = weights.iter().map(|w| w.abs()).find(|w| *w != 0.0).unwrap_or(0.0);
    weights.iter().all(|w| *w == 0.0 || w.abs() == scale).then_some(scale)
}

#[cfg(test)]
mod tests {
    use bitnet_core::{Buffer, DType, Tensor};
    use bitnet_quant::Granularity;

    use super::*;

    fn matrix(rows: usize, weights: &[f32]) -> FloatMatrix {
        let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let dims = [rows, weights.len() / rows];
        FloatMatrix::new(&Tensor::new(DType::F32, dims, Buffer::from(bytes)).unwrap()).unwrap()
    }

    /// Codes 1, 0, -1 over and over, with a scale for each row and column.
    fn scaled(rows: usize, cols: usize, scale: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let weight = |i: usize| (1.0 - (i % 3) as f32) * scale(i / cols, i % cols);
        (0..rows * cols).map(weight).collect()
    }

    #[test]
    fn one_magnitude_is_one_scale() {
        let ternary = exact(&matrix(2, &[0.0, -0.5, 0.5, 0.0])).unwrap();
        assert_eq!(ternary.codes(), [0, -1, 1, 0]);
        assert_eq!(ternary.one_scale(), Ok(0.5));
    }

    #[test]
    fn scales_are_found_where_they_change_and_keep_every_weight() {
        let cases: [(Vec<f32>, Granularity); 5] = [
            (scaled(4, 96, |_, _| 0.5), Granularity::Tensor),
            (scaled(4, 96, |row, _| if row < 2 { 0.25 } else { 0.125 }), Granularity::Row),
            (scaled(4, 192, |_, col| if col < 96 { 0.25 } else { 0.125 }), Granularity::Group(96)),
            (scaled(4, 256, |row, col| (1 + row + col / 64) as f32), Granularity::Group(64)),
            (scaled(2, 320, |row, col| (1 + row + col / 128) as f32), Granularity::Group(128)),
        ];
        for (weights, granularity) in cases {
            let rows = if weights.len() == 640 { 2 } else { 4 };
            let ternary = exact(&matrix(rows, &weights)).unwrap();
            assert_eq!(ternary.scales().granularity(), granularity);
            assert_eq!(ternary.dequantize(), weights);
        }
    }

    #[test]
    fn other_floats_are_not_ternary() {
        let masters: Vec<f32> = (0..4 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
        assert!(exact(&matrix(4, &masters)).is_none());
        let mut nearly = scaled(4, 256, |_, _| 0.5);
        nearly[700] = 0.25;
        nearly[701] = 0.75;
        nearly[702] = 0.125;
        assert!(exact(&matrix(4, &nearly)).is_none());
        for strange in [f32::NAN, f32::INFINITY] {
            assert!(exact(&matrix(1, &[0.0, strange, 1.0])).is_none());
        }
        assert!(exact(&matrix(2, &[0.0; 4])).is_none());
    }
}
