//! The definition of the integer product, in plain Rust.

use super::TOKEN_GROUP;
use crate::ternary::CODES_PER_BYTE;

/// `dot[i] = sum of (packed[col] >> 2i & 3) * x[col]`.
pub fn dot1(packed: &[u8], x: &[i8]) -> [i32; CODES_PER_BYTE] {
    let mut dot = [0; CODES_PER_BYTE];
    for (byte, &x) in packed.iter().zip(x) {
        for (i, dot) in dot.iter_mut().enumerate() {
            *dot += i32::from(byte >> (2 * i) & 3) * i32::from(x);
        }
    }
    dot
}

/// [`dot1`] for four activation vectors.
pub fn dot4(packed: &[u8], x: [&[i8]; TOKEN_GROUP]) -> [[i32; CODES_PER_BYTE]; TOKEN_GROUP] {
    x.map(|x| dot1(packed, x))
}
