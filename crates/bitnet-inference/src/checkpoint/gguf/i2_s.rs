//! The two layouts that go by the name of `I2_S`, and which one a file has.
//!
//! bitnet.cpp packs 128 weights into 32 bytes; since the end of 2025 its builds for ARM pack 64 into 16, and nothing in
//! the file says so. Read in the wrong one, the columns of every matrix are shuffled. So look at the columns: a
//! checkpoint has a norm in front of each projection whose weights say which inputs matter, and a trained matrix has
//! more weights that are not zero in those columns. The layout in which the two go together is the right one.

use bitnet_quant::Codec;

/// Weights and bytes of the larger group, which two of the smaller fill too.
const WEIGHTS: usize = 128;
const BYTES: usize = 32;
/// Rows that are looked at: enough to know how many weights of a column are not zero.
const ROWS: usize = 512;

/// How well each layout fits, summed over matrices.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    groups_128: f64,
    groups_64: f64,
    matrices: usize,
}

impl Evidence {
    /// Looks at a matrix of `cols` columns, with the norm in front of it.
    pub(super) fn add(&mut self, bytes: &[u8], cols: usize, norm: &[f32]) {
        if !cols.is_multiple_of(WEIGHTS) || norm.len() != cols {
            return;
        }
        let mut counts = vec![0_u32; cols];
        for row in bytes.chunks_exact(cols / 4).take(ROWS) {
            for (i, byte) in row.iter().enumerate() {
                for lane in 0..4 {
                    let col = i / BYTES * WEIGHTS + lane * BYTES + i % BYTES;
                    counts[col] += u32::from(byte >> (6 - 2 * lane) & 3 != 1);
                }
            }
        }
        let as_64: Vec<u32> = (0..cols).map(|col| counts[place_in_128(col)]).collect();
        // Of unrelated columns, this is 1 on average.
        self.groups_128 += cols as f64 * correlation(&counts, norm).powi(2);
        self.groups_64 += cols as f64 * correlation(&as_64, norm).powi(2);
        self.matrices += 1;
    }

    /// The layout, and whether the matrices say so clearly. In doubt it is that of the published files.
    pub(super) fn codec(&self) -> (Codec, bool) {
        const CLEAR: f64 = 2.0;
        const NOTABLE: f64 = 8.0;
        let is_notable = |fit: f64| fit > NOTABLE * self.matrices.max(1) as f64;
        if self.groups_64 > CLEAR * self.groups_128 && is_notable(self.groups_64) {
            return (Codec::I2SArm, true);
        }
        (Codec::I2S, self.groups_128 > CLEAR * self.groups_64 && is_notable(self.groups_128))
    }
}

/// Where a reader of the larger groups sees the weight `col` of a row that was packed in the smaller ones.
fn place_in_128(col: usize) -> usize {
    let (block, within) = (col / WEIGHTS * WEIGHTS, col % WEIGHTS);
    let (group, lane, i) = (within / 64, within % 64 / 16, within % 16);
    block + lane * BYTES + group * 16 + i
}

fn correlation(counts: &[u32], norm: &[f32]) -> f64 {
    let n = counts.len() as f64;
    let mean_x = counts.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let mean_y = norm.iter().map(|&y| f64::from(y)).sum::<f64>() / n;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (&x, &y) in counts.iter().zip(norm) {
        let (x, y) = (f64::from(x) - mean_x, f64::from(y) - mean_y);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    let scale = (xx * yy).sqrt();
    if scale > 0.0 && scale.is_finite() { xy / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(codes: &[u8], group: usize) -> Vec<u8> {
        let quarter = group / 4;
        let byte = |c: &[u8], j: usize| (0..4).fold(0, |byte, lane| byte << 2 | c[lane * quarter + j]);
        codes.chunks_exact(group).flat_map(|c| (0..quarter).map(move |j| byte(c, j))).collect()
    }

    /// Rows whose columns are denser where the norm is larger.
    fn trained(rows: usize, cols: usize) -> (Vec<u8>, Vec<f32>) {
        let norm: Vec<f32> = (0..cols).map(|col| (col * 37 % 101) as f32 / 100.0).collect();
        let is_set = |i: usize| ((i * 7919 + i / cols * 104_729) % 101) as f32 / 100.0 < norm[i % cols];
        ((0..rows * cols).map(|i| if is_set(i) { 2 * (i % 2) as u8 } else { 1 }).collect(), norm)
    }

    #[test]
    fn both_layouts_are_told_apart() {
        let (codes, norm) = trained(256, 256);
        for (group, codec) in [(128, Codec::I2S), (64, Codec::I2SArm)] {
            let mut evidence = Evidence::default();
            evidence.add(&pack(&codes, group), 256, &norm);
            assert_eq!(evidence.codec(), (codec, true), "{evidence:?}");
        }
    }

    #[test]
    fn noise_is_read_as_published_files_are() {
        let codes: Vec<u8> =
            (0..64 * 256_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as u8 % 3).collect();
        let mut evidence = Evidence::default();
        evidence.add(&pack(&codes, 128), 256, &(0..256).map(|i| (i % 7) as f32).collect::<Vec<_>>());
        assert_eq!(evidence.codec(), (Codec::I2S, false));
    }
}
