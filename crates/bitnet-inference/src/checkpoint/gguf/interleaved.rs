//! `IQ2_BN_R4`: `IQ2_BN` with four rows side by side, as a program repacks it for its kernels.
//!
//! ```text
//! | 4 x f32 scale | 64 bytes | 64 bytes | ... |        four rows; 64 columns of each in 64 bytes
//!
//! bit               7 6          5 4         3 2         1 0
//! byte[16 l + 4 k + i]   t[k][16 l + i + 12]  ...  t[k][16 l + i]        i, k, l < 4
//! ```
//!
//! Source: `ik_llama.cpp`, `iqk_quantize.cpp`, `dequantize_row_iq2_bn_r4`.

/// Rows that lie side by side.
pub(super) const ROWS: usize = 4;
/// Bytes of a scale.
const SCALE: usize = 4;
/// Bytes of 64 codes of a row.
const BLOCK: usize = 16;

/// The rows one after another, as `IQ2_BN` has them. The bytes are those of whole groups of rows of `cols`.
pub(super) fn separated(bytes: &[u8], cols: usize) -> Vec<u8> {
    let row_bytes = SCALE + cols / 64 * BLOCK;
    let mut out = Vec::with_capacity(bytes.len());
    for group in bytes.chunks_exact(ROWS * row_bytes) {
        let (scales, blocks) = group.split_at(ROWS * SCALE);
        for (row, scale) in scales.as_chunks::<SCALE>().0.iter().enumerate() {
            out.extend(scale);
            for block in blocks.as_chunks::<{ ROWS * BLOCK }>().0 {
                out.extend((0..BLOCK).map(|column| byte(block, row, column)));
            }
        }
    }
    out
}

/// The codes of `column`, and of 16, 32 and 48 columns behind it, lowest first.
fn byte(block: &[u8; ROWS * BLOCK], row: usize, column: usize) -> u8 {
    let (at, shift) = (ROWS * row + column % 4, column / 4 * 2);
    (0..4).map(|quarter| (block[BLOCK * quarter + at] >> shift & 3) << (2 * quarter)).sum()
}

#[cfg(test)]
mod tests {
    use bitnet_core::{Buffer, ThreadPool};
    use bitnet_quant::Codec;
    use proptest::prelude::*;

    use super::*;

    /// By the definition, from codes `t`.
    fn interleaved(codes: &[u8], scales: &[f32], cols: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for (codes, scales) in codes.chunks_exact(ROWS * cols).zip(scales.chunks_exact(ROWS)) {
            out.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
            for start in (0..cols).step_by(64) {
                let mut block = [0; 64];
                for (row, i, l, j) in
                    (0..256).map(|index| (index / 64, index / 16 % 4, index / 4 % 4, index % 4))
                {
                    let code = codes[row * cols + start + 16 * l + i + 4 * j];
                    block[16 * l + 4 * row + i] |= code << (2 * j);
                }
                out.extend(block);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn rows_come_apart(
            (blocks, groups) in (1_usize..4, 1_usize..4),
            codes in prop::collection::vec(0_u8..3, 4 * 3 * 64 * 3),
            scales in prop::collection::vec(0.1_f32..2.0, 12),
        ) {
            let (rows, cols) = (ROWS * groups, 64 * blocks);
            let (codes, scales) = (&codes[..rows * cols], &scales[..rows]);
            let bytes = Buffer::from(separated(&interleaved(codes, scales, cols), cols));
            let matrix = Codec::Iq2Bn.decode(&ThreadPool::new(1).unwrap(), rows, cols, &bytes).unwrap();
            let expected: Vec<i8> = codes.iter().map(|code| *code as i8 - 1).collect();
            prop_assert_eq!(matrix.codes(), expected);
            let found = matrix.scales().values();
            // Scales that agree become one.
            prop_assert!((0..rows).all(|row| found[row.min(found.len() - 1)] == scales[row]), "{found:?}");
        }
    }
}
