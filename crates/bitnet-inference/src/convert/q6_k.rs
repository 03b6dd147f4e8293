//! Floats as `Q6_K`: 256 weights `scale * scales[i / 16] * code`, codes of 6 bits.
//!
//! ```text
//! for each 16 weights: of the steps near max|w| / 32, that with which the rounded weights have the least error
//! scale  = the largest step / 128, as float16; scales = steps / scale, rounded, or one more or less
//! codes  = weights / (scale * scales[i / 16]), rounded
//! ```
//!
//! Of these and the plain steps `max|w| / 32` the better ones are written. The layout is that of
//! `checkpoint/gguf/blocks.rs`, which reads it. Source of the idea: llama.cpp, `ggml-quants.c`, `quantize_row_q6_K_ref`.

use half::f16;

use crate::checkpoint::gguf::q6_k_place;

/// Weights of a block.
pub(super) const BLOCK: usize = 256;
/// Bytes of a block; the last two are its scale.
pub(super) const BYTES: usize = 210;
const RUN: usize = 16;
const RUNS: usize = BLOCK / RUN;

/// The code of a weight in units of a step.
fn code(units: f32) -> f32 {
    // Rounds, halves to even, as long as the sum is below 2^24; much faster than a call where there is no instruction.
    const ROUND: f32 = 12_582_912.0;
    (units.clamp(-32.0, 31.0) + ROUND) - ROUND
}

/// Writes the bytes of 256 weights; false when their scale is beyond float16.
pub(super) fn q6_k(block: &[f32; BLOCK], out: &mut [u8; BYTES]) -> bool {
    let plain = Encoded::new(block, &steps(block, plain_step), f16::from_f32);
    let searched = Encoded::new(block, &steps(block, best_step), away_from_zero);
    let better = if searched.error < plain.error { searched } else { plain };
    better.write(out);
    better.scale.is_finite()
}

fn steps(block: &[f32], step: fn(&[f32]) -> f32) -> [f32; RUNS] {
    let mut steps = [0.0; RUNS];
    for (out, run) in steps.iter_mut().zip(block.chunks_exact(RUN)) {
        *out = step(run);
    }
    steps
}

/// That with which the largest weight is -32: there is no 32.
fn plain_step(run: &[f32]) -> f32 {
    run.iter().fold(0.0_f32, |most, &w| if w.abs() > most.abs() { w } else { most }) / -32.0
}

/// The step near the plain one whose codes leave the least error: with given codes `c`, `sum wc / sum cc` is the best
/// step, and it takes `(sum wc)^2 / sum cc` off the sum of squares.
fn best_step(run: &[f32]) -> f32 {
    let plain = plain_step(run);
    let (mut best, mut most) = (plain, 0.0);
    for tenth in -9..=9 {
        let inverse = (1.0 + tenth as f32 / 320.0) / plain;
        let (mut along, mut square) = (0.0, 0.0);
        for &w in run {
            let code = code(w * inverse);
            along += w * code;
            square += code * code;
        }
        if along * along > most * square {
            (best, most) = (along / square, along * along / square);
        }
    }
    best
}

/// A float16 that is at least as large: with less the largest weights would be cut off.
fn away_from_zero(value: f32) -> f16 {
    let nearest = f16::from_f32(value);
    if nearest.to_f32().abs() < value.abs() { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}

struct Encoded {
    scale: f16,
    scales: [i8; RUNS],
    codes: [i8; BLOCK],
    /// Sum of squares.
    error: f64,
}

impl Encoded {
    fn new(block: &[f32], steps: &[f32; RUNS], narrow: fn(f32) -> f16) -> Self {
        let largest =
            steps.iter().fold(0.0_f32, |most, &step| if step.abs() > most.abs() { step } else { most });
        let scale = narrow(largest / -128.0);
        let mut encoded = Self { scale, scales: [0; RUNS], codes: [0; BLOCK], error: 0.0 };
        let scale = scale.to_f32();
        for (index, (run, step)) in block.chunks_exact(RUN).zip(steps).enumerate() {
            // Of weights below all float16 nothing is left.
            let near = if scale == 0.0 { 0.0 } else { (step / scale).round_ties_even().clamp(-128.0, 127.0) };
            let candidates = [near, near - 1.0, near + 1.0].map(|scale| scale.clamp(-128.0, 127.0));
            let measured = candidates.map(|candidate| (candidate, error(run, scale * candidate)));
            let best = measured.into_iter().reduce(|best, next| if next.1 < best.1 { next } else { best });
            let (best, error) = best.expect("there are three");
            encoded.scales[index] = best as i8;
            encoded.error += error;
            for (code, &w) in encoded.codes[index * RUN..].iter_mut().zip(run) {
                *code = units(w, scale * best) as i8;
            }
        }
        encoded
    }

    fn write(&self, bytes: &mut [u8; BYTES]) {
        *bytes = [0; BYTES];
        for (index, code) in self.codes.iter().enumerate() {
            let ((low, low_shift), (high, high_shift)) = q6_k_place(index);
            let code = (code + 32) as u8;
            bytes[low] |= (code & 15) << low_shift;
            bytes[high] |= code >> 4 << high_shift;
        }
        for (byte, scale) in bytes[192..].iter_mut().zip(self.scales) {
            *byte = scale as u8;
        }
        bytes[208..].copy_from_slice(&self.scale.to_le_bytes());
    }
}

fn units(w: f32, step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { code(w / step) }
}

fn error(run: &[f32], step: f32) -> f64 {
    let off = run.iter().map(|&w| w - step * units(w, step));
    off.map(|off| f64::from(off) * f64::from(off)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::gguf::q6_k_decode;

    fn read_back(block: &[f32]) -> Vec<f32> {
        let mut bytes = [0; BYTES];
        assert!(q6_k(block.try_into().unwrap(), &mut bytes));
        let mut out = vec![0.0; BLOCK];
        q6_k_decode(&bytes, &mut out);
        out
    }

    fn squares(ours: &[f32], theirs: &[f32]) -> f64 {
        ours.iter().zip(theirs).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }

    /// No search: the steps of the largest weights, rounded twice.
    fn plain(block: &[f32]) -> Vec<f32> {
        let steps = steps(block, plain_step);
        let largest =
            steps.iter().fold(0.0_f32, |most, &step| if step.abs() > most.abs() { step } else { most });
        let scale = f16::from_f32(largest / -128.0).to_f32();
        let step =
            |step: f32| if scale == 0.0 { 0.0 } else { scale * (step / scale).round().clamp(-128.0, 127.0) };
        block
            .iter()
            .enumerate()
            .map(|(i, &w)| step(steps[i / RUN]) * units(w, step(steps[i / RUN])))
            .collect()
    }

    proptest! {
        #[test]
        fn a_search_is_no_worse_than_the_largest_weight(
            block in prop::collection::vec(-1.0_f32..1.0, BLOCK), exponent in -10_i32..6, outlier in 0.0_f32..30.0,
        ) {
            let mut block: Vec<f32> = block.iter().map(|w| w * 2.0_f32.powi(exponent)).collect();
            block[77] *= outlier;
            let (ours, theirs) = (squares(&read_back(&block), &block), squares(&plain(&block), &block));
            prop_assert!(ours <= theirs * (1.0 + 1e-6), "{ours} {theirs}");
        }

        /// Half a step of the run, and what the eight bits of its scale are off at the end of the range.
        #[test]
        fn no_weight_is_off_by_more_than_its_step(
            block in prop::collection::vec(-1.0_f32..1.0, BLOCK), exponent in -6_i32..6,
        ) {
            let block: Vec<f32> = block.iter().map(|w| w * 2.0_f32.powi(exponent)).collect();
            let most = block.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
            for (a, b) in read_back(&block).iter().zip(&block) {
                prop_assert!((a - b).abs() <= most * (1.5 / 32.0), "{a} {b} of {most}");
            }
        }

        #[test]
        fn codes_come_back(
            codes in prop::collection::vec(-32_i8..=31, BLOCK), scales in prop::collection::vec(-128_i8..=127, RUNS),
        ) {
            let encoded = Encoded {
                scale: f16::from_f32(0.25),
                scales: scales.clone().try_into().unwrap(),
                codes: codes.clone().try_into().unwrap(),
                error: 0.0,
            };
            let (mut bytes, mut out) = ([0xff; BYTES], vec![0.0; BLOCK]);
            encoded.write(&mut bytes);
            q6_k_decode(&bytes, &mut out);
            for (index, out) in out.into_iter().enumerate() {
                let expected = 0.25 * f32::from(scales[index / RUN]) * f32::from(codes[index]);
                prop_assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn zeros_and_what_float16_does_not_know_become_zeros() {
        assert!(read_back(&[0.0; BLOCK]).iter().all(|w| *w == 0.0));
        assert!(read_back(&[1e-12; BLOCK]).iter().all(|w| w.abs() <= 2.5e-4));
    }

    #[test]
    fn a_search_takes_a_tenth_off_the_error() {
        let random = |i: usize| ((i as f32 * 0.618_034).fract() - 0.5) * (1.0 + (i as f32 * 0.3).sin());
        let (mut ours, mut theirs) = (0.0, 0.0);
        for block in 0..64 {
            let block: Vec<f32> = (0..BLOCK).map(|i| random(block * BLOCK + i)).collect();
            ours += squares(&read_back(&block), &block);
            theirs += squares(&plain(&block), &block);
        }
        assert!(ours < 0.9 * theirs, "{ours} {theirs}");
    }
}
