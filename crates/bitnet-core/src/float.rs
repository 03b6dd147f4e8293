//! Floating-point kernels, written once and compiled for every instruction set.
//!
//! Sums run in 64 lanes that are added in a fixed order at the end, with separate multiplications and additions
//! (no fused ones). So a result does not depend on the instruction set, on the number of threads or on how many
//! tokens share a call: the same model and seed give the same text on every machine with the same `exp`.

use half::{bf16, f16};

use crate::{Isa, Result};

/// Four accumulators of a 512-bit vector: one alone would wait for its own additions.
const LANES: usize = 64;

/// The kernels compiled for one instruction set.
#[derive(Debug, Clone, Copy)]
pub struct FloatKernels(Versions);

impl FloatKernels {
    /// The kernels for `isa`, if this CPU has it.
    pub fn new(isa: Isa) -> Result<Self> {
        Ok(Self(match isa.require()? {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => avx2::VERSIONS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => avx512::VERSIONS,
            // NEON belongs to the aarch64 baseline: the plain build has it.
            _ => baseline::VERSIONS,
        }))
    }
}

/// Element types a weight can be stored in.
pub trait Weight: bytemuck::Pod + Send + Sync {
    /// Widens to float32, exactly.
    fn widen(self) -> f32;
}

impl Weight for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Weight for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Weight for f16 {
    /// Moves exponent and fraction into place, then scales by 2^112, the difference of the exponent biases; the
    /// multiplication also makes normal numbers of subnormal ones.
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        let is_finite = bits & 0x7c00 != 0x7c00;
        let exponent = if is_finite { 0 } else { 0x7f80_0000 };
        f32::from_bits(magnitude.to_bits() | exponent | (bits & 0x8000) << 16)
    }
}

#[inline(always)]
fn sum_of_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn dot_generic<W: Weight>(w: &[W], x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (w_blocks, w_tail) = w.as_chunks::<LANES>();
    let (x_blocks, x_tail) = x.as_chunks::<LANES>();
    for (w, x) in w_blocks.iter().zip(x_blocks) {
        for i in 0..LANES {
            lanes[i] += w[i].widen() * x[i];
        }
    }
    for (i, (w, x)) in w_tail.iter().zip(x_tail).enumerate() {
        lanes[i] += w.widen() * x;
    }
    sum_of_lanes(lanes)
}

#[inline(always)]
fn add_scaled_generic(out: &mut [f32], factor: f32, x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

#[inline(always)]
fn rms_norm_generic(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mean_square = dot_generic(x, x) / x.len() as f32;
    let factor = 1.0 / (mean_square + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = weight * (x * factor);
    }
}

#[inline(always)]
fn absmax_generic(x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = lanes[i].max(block[i].abs());
        }
    }
    let widest = tail.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    lanes.into_iter().fold(widest, f32::max)
}

#[inline(always)]
fn quantize_generic(x: &[f32], scale: f32, codes: &mut [i8]) -> i32 {
    /// Adding it rounds to the next integer, the even one of two, and leaves that in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let mut sum = 0;
    for (code, x) in codes.iter_mut().zip(x) {
        let rounded = ((x * scale).clamp(-128.0, 127.0) + ROUND).to_bits() as i8;
        *code = rounded;
        sum += i32::from(rounded);
    }
    sum
}

#[inline(always)]
fn relu_squared_gate_generic(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let positive = gate.max(0.0);
        *gate = positive * positive * up;
    }
}

/// Positions whose scores are computed side by side.
pub const POSITIONS: usize = 16;

/// Products of one lane of `dot_generic`, for 16 positions.
#[inline(always)]
fn lane_of_scores(q: &[f32], keys: &[[f32; POSITIONS]], lane: usize) -> [f32; POSITIONS] {
    let mut sums = [0.0; POSITIONS];
    for d in (lane..q.len()).step_by(LANES) {
        for position in 0..POSITIONS {
            sums[position] += q[d] * keys[d][position];
        }
    }
    sums
}

/// Levels of the tree in which `sum_of_lanes` adds: level `k` joins lanes `2^(6 - k)` apart.
macro_rules! score_tree {
    ($($name:ident = $below:ident, $apart:literal;)*) => {$(
        #[inline(always)]
        fn $name(q: &[f32], keys: &[[f32; POSITIONS]], lane: usize) -> [f32; POSITIONS] {
            let (mut sums, other) = ($below(q, keys, lane), $below(q, keys, lane + $apart));
            for position in 0..POSITIONS {
                sums[position] += other[position];
            }
            sums
        }
    )*};
}

score_tree! {
    score_level_1 = lane_of_scores, 32;
    score_level_2 = score_level_1, 16;
    score_level_3 = score_level_2, 8;
    score_level_4 = score_level_3, 4;
    score_level_5 = score_level_4, 2;
    score_level_6 = score_level_5, 1;
}

#[inline(always)]
fn scores_generic(q: &[f32], keys: &[f32], scale: f32, scores: &mut [f32; POSITIONS]) {
    let (keys, _) = keys.as_chunks::<POSITIONS>();
    let keys = &keys[..q.len()];
    // With the common lengths known, the tree becomes straight code.
    let sums = match q.len() {
        64 => score_level_6(&q[..64], &keys[..64], 0),
        128 => score_level_6(&q[..128], &keys[..128], 0),
        _ => score_level_6(q, keys, 0),
    };
    for position in 0..POSITIONS {
        scores[position] = sums[position] * scale;
    }
}

#[inline(always)]
fn softmax_weights_generic(scores: &mut [f32], max: f32) {
    for score in scores {
        *score = exp_of_negative(*score - max);
    }
}

/// `exp(x)` for `x <= 0`, rounded correctly but for one value in some millions; 0 below -87, where float32 ends.
///
/// In float64: `x = n ln 2 + r` with `|r| <= ln 2 / 2`, `exp(r)` by its Taylor polynomial of degree 9, times `2^n`.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    /// Adding it leaves a number rounded to an integer in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const COEFFICIENTS: [f64; 9] =
        [1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let wide = f64::from(x);
    let shifted = wide * std::f64::consts::LOG2_E + ROUND;
    let r = wide - (shifted - ROUND) * std::f64::consts::LN_2;
    let mut power = 1.0 / 362_880.0;
    for coefficient in COEFFICIENTS {
        power = power * r + coefficient;
    }
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x < -87.0 { 0.0 } else { (power * scale) as f32 }
}

#[inline(always)]
fn add_weighted_generic(out: &mut [f32], weights: &[f32], vectors: &[f32], mut total: f32) -> f32 {
    let width = out.len();
    let mut start = 0;
    while start + LANES <= width {
        let out: &mut [f32; LANES] = (&mut out[start..start + LANES]).try_into().expect("of that length");
        let mut sums = *out;
        for (weight, vector) in weights.iter().zip(vectors.chunks_exact(width)) {
            let vector: &[f32; LANES] = vector[start..start + LANES].try_into().expect("of that length");
            for i in 0..LANES {
                sums[i] += weight * vector[i];
            }
            // Beside the vectors, which hide that each addition waits for the last.
            if start == 0 {
                total += weight;
            }
        }
        *out = sums;
        start += LANES;
    }
    for (weight, vector) in weights.iter().zip(vectors.chunks_exact(width)) {
        for (out, x) in out[start..].iter_mut().zip(&vector[start..]) {
            *out += weight * x;
        }
        if start == 0 {
            total += weight;
        }
    }
    total
}

#[inline(always)]
fn nibbles_generic(x: &[f32], factor: f32, offsets: &[f32], codes: &mut [u8]) {
    /// As in `exp_of_negative`: the lowest bits then hold the number rounded.
    const ROUND: f32 = 8_388_608.0;
    for ((code, x), offset) in codes.iter_mut().zip(x).zip(offsets) {
        *code = ((x * factor + offset) + ROUND).to_bits() as u8;
    }
}

/// Declares the table of kernels, its methods, and one compiled version per instruction set.
macro_rules! kernels {
    ($( $(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $generic:expr; )*) => {
        #[derive(Debug, Clone, Copy)]
        struct Versions { $($name: unsafe fn($($type),*) $(-> $ret)?,)* }

        impl FloatKernels {
            $(
                $(#[$doc])*
                #[expect(unsafe_code, reason = "calls code compiled for an instruction set")]
                pub fn $name(&self, $($arg: $type),*) $(-> $ret)? {
                    // SAFETY: `new` found the instruction set on this CPU.
                    unsafe { (self.0.$name)($($arg),*) }
                }
            )*
        }

        #[cfg(target_arch = "x86_64")]
        kernels!(@version avx2, #[target_feature(enable = "avx2")],
            $( fn $name($($arg: $type),*) $(-> $ret)? = $generic; )*);
        #[cfg(target_arch = "x86_64")]
        kernels!(@version avx512, #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")],
            $( fn $name($($arg: $type),*) $(-> $ret)? = $generic; )*);
        kernels!(@version baseline, #[inline],
            $( fn $name($($arg: $type),*) $(-> $ret)? = $generic; )*);
    };
    (@version $isa:ident, #[$attribute:meta],
        $( fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $generic:expr; )*) => {
        mod $isa {
            use super::*;
            $( #[$attribute] fn $name($($arg: $type),*) $(-> $ret)? { $generic($($arg),*) } )*
            pub(super) const VERSIONS: Versions = Versions { $($name,)* };
        }
    };
}

kernels! {
    /// `sum_i w_i x_i` over float32 weights.
    fn dot_f32(w: &[f32], x: &[f32]) -> f32 = dot_generic;
    /// `sum_i w_i x_i` over bfloat16 weights.
    fn dot_bf16(w: &[bf16], x: &[f32]) -> f32 = dot_generic;
    /// `sum_i w_i x_i` over float16 weights.
    fn dot_f16(w: &[f16], x: &[f32]) -> f32 = dot_generic;
    /// `out_i += factor * x_i`.
    fn add_scaled(out: &mut [f32], factor: f32, x: &[f32]) = add_scaled_generic;
    /// `out_i = weight_i * x_i / sqrt(mean(x^2) + eps)` (RMSNorm, arXiv 1910.07467).
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = rms_norm_generic;
    /// `max_i |x_i|`; NaN is passed over.
    fn absmax(x: &[f32]) -> f32 = absmax_generic;
    /// `codes_i = clamp(round_half_even(x_i * scale), -128, 127)`; returns the sum of the codes.
    fn quantize(x: &[f32], scale: f32, codes: &mut [i8]) -> i32 = quantize_generic;
    /// Scores of 16 positions, `scores[p] = scale * sum_d q_d keys[d][p]`, the same bits as `dot_f32` gives; `keys` is
    /// `[head_dim][16]`.
    fn scores(q: &[f32], keys: &[f32], scale: f32, scores: &mut [f32; POSITIONS]) = scores_generic;
    /// `scores_p = exp(scores_p - max)`, none above `max`.
    fn softmax_weights(scores: &mut [f32], max: f32) = softmax_weights_generic;
    /// `out += sum_p weights_p vectors[p]` and `total + sum_p weights_p`, in the order of the positions; `vectors` is
    /// `[positions, out.len()]`.
    fn add_weighted(out: &mut [f32], weights: &[f32], vectors: &[f32], total: f32) -> f32 = add_weighted_generic;
    /// `codes_i = round(x_i * factor + offsets_i)`, which must lie in 0..256.
    fn nibbles(x: &[f32], factor: f32, offsets: &[f32], codes: &mut [u8]) = nibbles_generic;
    /// `gate_i = relu(gate_i)^2 * up_i`.
    fn relu_squared_gate(gate: &mut [f32], up: &[f32]) = relu_squared_gate_generic;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.37 + seed).sin() * 3.0).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let baseline = FloatKernels(baseline::VERSIONS);
        for isa in Isa::available() {
            let kernels = FloatKernels::new(isa).unwrap();
            for n in [0, 1, 15, 16, 17, 64, 100, 257] {
                let (a, b) = (values(n, 0.1), values(n, 0.7));
                let brains: Vec<bf16> = a.iter().map(|&x| bf16::from_f32(x)).collect();
                let halves: Vec<f16> = a.iter().map(|&x| f16::from_f32(x)).collect();
                assert_eq!(
                    kernels.dot_f32(&a, &b).to_bits(),
                    baseline.dot_f32(&a, &b).to_bits(),
                    "{isa} {n}"
                );
                assert_eq!(kernels.dot_bf16(&brains, &b).to_bits(), baseline.dot_bf16(&brains, &b).to_bits());
                assert_eq!(kernels.dot_f16(&halves, &b).to_bits(), baseline.dot_f16(&halves, &b).to_bits());
                assert_eq!(kernels.absmax(&a), baseline.absmax(&a));
                let run = |k: &FloatKernels| {
                    let (mut norm, mut sum, mut gate, mut codes) =
                        (a.clone(), b.clone(), a.clone(), vec![0_i8; n]);
                    k.rms_norm(&a, &b, 1e-5, &mut norm);
                    k.add_scaled(&mut sum, 0.3, &a);
                    k.relu_squared_gate(&mut gate, &b);
                    let total = k.quantize(&a, 42.3, &mut codes);
                    (norm, sum, gate, codes, total)
                };
                assert_eq!(format!("{:?}", run(&kernels)), format!("{:?}", run(&baseline)), "{isa} {n}");
            }
        }
    }

    #[test]
    fn dot_and_norm_follow_their_formulas() {
        let kernels = FloatKernels::new(Isa::Scalar).unwrap();
        let (a, b) = (values(100, 0.2), values(100, 0.9));
        let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!((f64::from(kernels.dot_f32(&a, &b)) - exact).abs() < 1e-4);
        let mut out = vec![0.0; 100];
        kernels.rms_norm(&a, &b, 1e-5, &mut out);
        let mean_square = a.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 100.0;
        for i in 0..100 {
            let expected = f64::from(b[i]) * f64::from(a[i]) / (mean_square + 1e-5).sqrt();
            assert!((f64::from(out[i]) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn exp_is_rounded_correctly() {
        let mut wrong = 0;
        for i in 0..=870_000 {
            let x = i as f32 * -1e-4;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp_of_negative(x)) / exact - 1.0).abs() < 6.1e-8, "exp({x})");
            wrong += usize::from(exp_of_negative(x) != exact as f32);
        }
        assert!(wrong < 5, "{wrong}");
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_of_negative(-1e30), 0.0);
        assert!(exp_of_negative(f32::NAN).is_nan());
    }

    #[test]
    fn attention_kernels_follow_their_formulas_on_every_instruction_set() {
        for head_dim in [2, 6, 64, 80, 128] {
            let (q, keys) = (values(head_dim, 0.3), values(head_dim * POSITIONS, 0.5));
            let baseline = FloatKernels(baseline::VERSIONS);
            for isa in Isa::available() {
                let kernels = FloatKernels::new(isa).unwrap();
                let run = |kernels: &FloatKernels| {
                    let mut scores = [0.0; POSITIONS];
                    kernels.scores(&q, &keys, 0.125, &mut scores);
                    let raw = scores;
                    let max = raw.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    kernels.softmax_weights(&mut scores, max);
                    let mut out = vec![0.0; head_dim];
                    let total = kernels.add_weighted(&mut out, &scores, &keys, 0.5) - 0.5;
                    (raw, scores, total, out)
                };
                let (raw, weights, total, out) = run(&kernels);
                assert_eq!((raw, weights, total, out.clone()), run(&baseline), "{isa}");
                for position in 0..POSITIONS {
                    let key: Vec<f32> = (0..head_dim).map(|d| keys[d * POSITIONS + position]).collect();
                    assert_eq!(raw[position], kernels.dot_f32(&q, &key) * 0.125);
                }
                assert!((weights.iter().sum::<f32>() - total).abs() < 1e-5);
                for d in 0..head_dim {
                    let exact: f32 = (0..POSITIONS).map(|p| weights[p] * keys[p * head_dim + d]).sum();
                    assert!((out[d] - exact).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn every_half_widens_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            assert!(half.is_nan() || half.widen().to_bits() == half.to_f32().to_bits(), "{bits:04x}");
            assert_eq!(half.is_nan(), half.widen().is_nan());
        }
    }

    #[test]
    fn quantization_rounds_half_to_even_and_saturates() {
        let kernels = FloatKernels::new(Isa::Scalar).unwrap();
        let mut codes = [0_i8; 6];
        let sum = kernels.quantize(&[0.5, 1.5, -0.5, -2.5, 300.0, -300.0], 1.0, &mut codes);
        assert_eq!(codes, [0, 2, 0, -2, 127, -128]);
        assert_eq!(sum, -1);
    }
}
