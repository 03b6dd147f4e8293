//! The loops that go over every weight, compiled for the widest vectors of this CPU.
//!
//! Additions keep their order and none are fused, so the bits do not depend on the instruction set.

use bitnet_core::prefetch;

/// How far ahead weights are fetched into the second-level cache, and then into the first: a loop that computes leaves
/// the hardware prefetcher behind.
const FAR: usize = 16 * 1024 / size_of::<f32>();
const NEAR: usize = 1024 / size_of::<f32>();
/// Floats in a line.
const BLOCK: usize = prefetch::LINE / size_of::<f32>();

/// Defines a function that runs the widest of the compiled versions of a generic one.
macro_rules! widest {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $generic:ident;) => {
        $(#[$doc])*
        #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "calls code compiled for an instruction set"))]
        pub(crate) fn $name($($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    $generic($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    $generic($($arg),*)
                }
                let has_avx2 = is_x86_feature_detected!("avx2");
                if has_avx2 && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                    // SAFETY: the CPU has the instruction set; BW and VL bring F.
                    return unsafe { avx512($($arg),*) };
                }
                if has_avx2 {
                    // SAFETY: the CPU has the instruction set.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $generic($($arg),*)
        }
    };
}

widest! {
    /// `sum |x|` in float64 and in 16 lanes that are added in order.
    fn sum_abs(values: &[f32]) -> f64 = sum_abs_generic;
}

widest! {
    /// `codes_i = clamp(round_half_even(w_i * factor), -1, 1) + 1`.
    fn ternary_codes(w: &[f32], factor: f32, codes: &mut [u8]) = ternary_codes_generic;
}

widest! {
    /// Puts codes into the two bits of bytes from `shift` on. The lowest bit of the result says whether a code was 3.
    fn merge_codes(bytes: &mut [u8], codes: &[u8], shift: usize) -> u8 = merge_codes_generic;
}

#[inline(always)]
fn sum_abs_generic(values: &[f32]) -> f64 {
    let (blocks, tail) = values.as_chunks::<BLOCK>();
    let mut lanes = [0.0_f64; BLOCK];
    for block in blocks {
        prefetch::far(block.as_ptr().wrapping_add(FAR));
        prefetch::near(block.as_ptr().wrapping_add(NEAR));
        for i in 0..BLOCK {
            lanes[i] += f64::from(block[i].abs());
        }
    }
    lanes.iter().sum::<f64>() + tail.iter().map(|x| f64::from(x.abs())).sum::<f64>()
}

#[inline(always)]
fn ternary_codes_generic(w: &[f32], factor: f32, codes: &mut [u8]) {
    /// Adding it rounds to the next whole number, the even one of two, and leaves that in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let encode = |(code, w): (&mut u8, &f32)| {
        let rounded = ((w * factor).clamp(-1.0, 1.0) + ROUND).to_bits() as u8;
        *code = rounded.wrapping_add(1);
    };
    let (blocks, tail) = w.as_chunks::<BLOCK>();
    let (code_blocks, code_tail) = codes.as_chunks_mut::<BLOCK>();
    for (codes, block) in code_blocks.iter_mut().zip(blocks) {
        prefetch::far(block.as_ptr().wrapping_add(FAR));
        prefetch::near(block.as_ptr().wrapping_add(NEAR));
        codes.iter_mut().zip(block).for_each(encode);
    }
    code_tail.iter_mut().zip(tail).for_each(encode);
}

#[inline(always)]
fn merge_codes_generic(bytes: &mut [u8], codes: &[u8], shift: usize) -> u8 {
    let mut neighbours = 0;
    for (byte, code) in bytes.iter_mut().zip(codes) {
        *byte |= code << shift;
        neighbours |= code & (code >> 1);
    }
    neighbours & 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_gives_the_same_bits() {
        for n in [0, 1, 15, 16, 17, 63, 64, 65, 300] {
            let w: Vec<f32> = (0..n).map(|i| (i as f32 * 0.731).sin() * 3.0).collect();
            assert_eq!(sum_abs(&w).to_bits(), sum_abs_generic(&w).to_bits());
            let (mut wide, mut plain) = (vec![9; n], vec![9; n]);
            ternary_codes(&w, 0.7, &mut wide);
            ternary_codes_generic(&w, 0.7, &mut plain);
            assert_eq!(wide, plain);
            let (mut merged, mut expected) = (plain.clone(), plain);
            assert_eq!(merge_codes(&mut merged, &wide, 4), merge_codes_generic(&mut expected, &wide, 4));
            assert_eq!(merged, expected);
        }
        let mut merged = [0b00_10_01_00; 40];
        assert_eq!(merge_codes(&mut merged, &[2; 40], 6), 0);
        assert_eq!(merged, [0b10_10_01_00; 40]);
        let mut codes = [1; 40];
        codes[35] = 3;
        assert_eq!(merge_codes(&mut merged, &codes, 0), 1);
        let mut codes = [9; 8];
        ternary_codes(&[0.5, -0.5, 0.500_000_06, -0.6, 1.5, -1e30, 1e30, -0.0], 1.0, &mut codes);
        assert_eq!(codes, [1, 1, 2, 0, 2, 0, 2, 1]);
    }
}
