//! Ternary products of the shapes of bitnet-b1.58-2B-4T, with random content.

use bitnet_quant::{QuantizedActivations, Result, TernaryMatrix};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A projection of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// The projections of bitnet-b1.58-2B-4T: hidden size 2560, 5 of 20 heads for keys and values, feed-forward 6912.
pub const SHAPES: [Shape; 4] = [
    Shape { name: "q_o", rows: 2560, cols: 2560 },
    Shape { name: "k_v", rows: 640, cols: 2560 },
    Shape { name: "gate_up", rows: 6912, cols: 2560 },
    Shape { name: "down", rows: 2560, cols: 6912 },
];

/// A matrix and activations to multiply.
#[derive(Debug)]
pub struct Case {
    /// About 40 % zeros, as trained models have.
    pub w: TernaryMatrix,
    /// Uniform int8 codes.
    pub x: QuantizedActivations,
}

impl Case {
    /// Random content that depends on the arguments only.
    pub fn new(shape: Shape, tokens: usize) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(tokens as u64);
        let codes: Vec<i8> = (0..shape.rows * shape.cols)
            .map(|_| match random.next_u32() % 10 {
                0..3 => -1,
                3..7 => 0,
                _ => 1,
            })
            .collect();
        let x: Vec<i8> = (0..tokens * shape.cols).map(|_| random.next_u32() as i8).collect();
        Ok(Self {
            w: TernaryMatrix::from_codes(shape.rows, shape.cols, &codes, 1.0)?,
            x: QuantizedActivations::from_codes(&x, shape.cols),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_in_ten_weights_are_zero_and_the_content_is_reproducible() {
        let case = Case::new(SHAPES[1], 2).unwrap();
        let codes = case.w.codes();
        let zeros = codes.iter().filter(|code| **code == 0).count() as f64 / codes.len() as f64;
        assert!((zeros - 0.4).abs() < 0.01, "{zeros}");
        assert_eq!(Case::new(SHAPES[1], 2).unwrap().w.packed()[..], case.w.packed()[..]);
        assert_eq!(case.x.tokens(), 2);
    }
}
