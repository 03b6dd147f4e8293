//! Floating-point kernels, written once and compiled for every instruction set.
//!
//! Sums run in 64 lanes that are added in a fixed order at the end, with separate multiplications and additions
//! (no fused ones). So a result does not depend on the instruction set, on the number of threads or on how many
//! tokens share a call: the same model and seed give the same text on every machine with the same `exp`.

use half::{bf16, f16};

use crate::{Isa, Result};

mod attention;

pub use attention::POSITIONS;

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

#[inline(always)]
fn codes_generic(x: &[f32], factor: f32, offsets: &[f32], codes: &mut [u8]) {
    /// As in `quantize_generic`.
    const ROUND: f32 = 12_582_912.0;
    for ((code, x), offset) in codes.iter_mut().zip(x).zip(offsets) {
        *code = ((x * factor + offset) + ROUND).to_bits() as u8;
    }
}

/// An element that is looked for.
trait Wanted: Copy {
    fn is_wanted(self) -> bool;
}

impl Wanted for f32 {
    #[inline(always)]
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN is wanted")]
    fn is_wanted(self) -> bool {
        !(self <= 0.0)
    }
}

impl Wanted for i8 {
    #[inline(always)]
    fn is_wanted(self) -> bool {
        self != 0
    }
}

/// By a mask for every 64 elements: a branch for each could not be foreseen.
#[inline(always)]
fn find_generic<T: Wanted>(x: &[T], places: &mut [u32]) -> usize {
    let places = &mut places[..x.len()];
    let mut count = 0;
    for (block, x) in x.chunks(64).enumerate() {
        let mut mask = 0_u64;
        for (i, x) in x.iter().enumerate() {
            mask |= u64::from(x.is_wanted()) << i;
        }
        while mask != 0 {
            places[count] = 64 * block as u32 + mask.trailing_zeros();
            mask &= mask - 1;
            count += 1;
        }
    }
    count
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
        kernels!(@version avx2, columns 32, #[target_feature(enable = "avx2")],
            $( fn $name($($arg: $type),*) $(-> $ret)? = $generic; )*);
        #[cfg(target_arch = "x86_64")]
        kernels!(@version avx512, columns 64, #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")],
            $( fn $name($($arg: $type),*) $(-> $ret)? = $generic; )*);
        kernels!(@version baseline, columns 16, #[inline],
            $( fn $name($($arg: $type),*) $(-> $ret)? = $generic; )*);
    };
    (@version $isa:ident, columns $columns:literal, #[$attribute:meta],
        $( fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $generic:expr; )*) => {
        mod $isa {
            use super::*;
            /// Four vectors: see `add_weighted`.
            const COLUMNS: usize = $columns;
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
    /// `scores[h * row + p] = scale * sum_d q[h, d] keys[p / 16][d][p mod 16]`, the products of `dot_f32`; `q` is
    /// `[heads, head_dim]`, `keys` `[positions / 16, head_dim, 16]`.
    fn scores(q: &[f32], head_dim: usize, keys: &[f32], scale: f32, scores: &mut [f32], row: usize)
        = attention::scores;
    /// `max_i x_i`, at least `floor`; NaN is passed over.
    fn max(x: &[f32], floor: f32) -> f32 = attention::max;
    /// `scores_p = exp(scores_p - max)`, none above `max`.
    fn softmax_weights(scores: &mut [f32], max: f32) = attention::softmax_weights;
    /// `out[h] += sum_p weights[h * row + p] vectors[p]` and `totals[h] += sum_p weights[h * row + p]`, in the order of
    /// the positions; `out` is `[heads, width]`, `vectors` `[positions, width]`.
    fn add_weighted(out: &mut [f32], weights: &[f32], row: usize, vectors: &[f32], totals: &mut [f32])
        = attention::add_weighted::<COLUMNS>;
    /// `codes_i = round(x_i * factor + offsets_i)`, which must lie in 0..256.
    fn codes(x: &[f32], factor: f32, offsets: &[f32], codes: &mut [u8]) = codes_generic;
    /// Writes the places of the elements above 0, and of NaN, to `places`, which is as long as `x`; returns their number.
    fn find_above_zero(x: &[f32], places: &mut [u32]) -> usize = find_generic;
    /// Writes the places of the elements other than 0 to `places`, which is as long as `x`; returns their number.
    fn find_nonzero(x: &[i8], places: &mut [u32]) -> usize = find_generic;
    /// `gate_i = relu(gate_i)^2 * up_i`.
    fn relu_squared_gate(gate: &mut [f32], up: &[f32]) = relu_squared_gate_generic;
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn values(n: usize, seed: f32) -> Vec<f32> {
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
    fn every_half_widens_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            assert!(half.is_nan() || half.widen().to_bits() == half.to_f32().to_bits(), "{bits:04x}");
            assert_eq!(half.is_nan(), half.widen().is_nan());
        }
    }

    #[test]
    fn what_is_wanted_is_found_in_order() {
        for isa in Isa::available() {
            let kernels = FloatKernels::new(isa).unwrap();
            for n in [0, 1, 63, 64, 65, 200] {
                let mut x = values(n, 0.2);
                x.iter_mut().skip(3).step_by(7).for_each(|x| *x = 0.0);
                x.iter_mut().skip(5).step_by(11).for_each(|x| *x = f32::NAN);
                let codes: Vec<i8> = x.iter().map(|x| *x as i8).collect();
                let places = |is_wanted: &dyn Fn(usize) -> bool| -> Vec<u32> {
                    (0..n).filter(|i| is_wanted(*i)).map(|i| i as u32).collect()
                };
                let mut found = vec![0; n];
                let count = kernels.find_above_zero(&x, &mut found);
                assert_eq!(found[..count], places(&|i| x[i] > 0.0 || x[i].is_nan()), "{isa} {n}");
                let count = kernels.find_nonzero(&codes, &mut found);
                assert_eq!(found[..count], places(&|i| codes[i] != 0), "{isa} {n}");
            }
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
