//! Float matrices that are ternary already: converters write `codes * scale` as floats when asked for float types.

use bitnet_core::FloatMatrix;
use bitnet_quant::TernaryMatrix;

/// The matrix, if all its weights are 0 or one number with either sign. Taking the mean of such weights for their
/// scale, as for masters, would make them smaller.
pub(crate) fn exact(matrix: &FloatMatrix) -> Option<TernaryMatrix> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut codes = Vec::new();
    let mut weights = vec![0.0; cols];
    let mut scale = 0.0_f32;
    for row in 0..rows {
        matrix.read_row(row, &mut weights);
        for &weight in &weights {
            if scale == 0.0 {
                scale = weight.abs();
            }
            if weight != 0.0 && weight.abs() != scale {
                return None;
            }
            codes.push(i8::from(weight > 0.0) - i8::from(weight < 0.0));
        }
    }
    TernaryMatrix::from_codes(rows, cols, &codes, scale).ok()
}

#[cfg(test)]
mod tests {
    use bitnet_core::{Buffer, DType, Tensor};

    use super::*;

    fn matrix(weights: [f32; 4]) -> FloatMatrix {
        let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        FloatMatrix::new(&Tensor::new(DType::F32, [2, 2], Buffer::from(bytes)).unwrap()).unwrap()
    }

    #[test]
    fn only_one_magnitude_is_ternary() {
        let ternary = exact(&matrix([0.0, -0.5, 0.5, 0.0])).unwrap();
        assert_eq!(ternary.codes(), [0, -1, 1, 0]);
        assert_eq!(ternary.one_scale(), Ok(0.5));
        assert!(exact(&matrix([0.0, -0.5, 0.25, 0.0])).is_none());
        // Nothing says what a code would stand for.
        assert!(exact(&matrix([0.0; 4])).is_none());
    }
}
