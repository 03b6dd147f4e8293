//! Numbers between -1 and 1 in eight bits.
//!
//! The dynamic data type of Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (arXiv 2110.02861), section
//! 1.3 and appendix C: seven decades, `10^-(7 - i)` to `10^-(6 - i)` for i = 0 .. 6, of which each is cut into `2^i` equal
//! parts, `2^(i + 1)` without a sign, that are stood for by their middles; besides 0 and 1. So small numbers keep their
//! magnitude, and large ones have many neighbours.

use std::sync::LazyLock;

/// Decades of the code.
const DECADES: i32 = 7;

/// Bits of a float32 below its first mantissa bits: floats that agree in the bits above lie between the same two codes, or
/// at most on both sides of one border.
const SHIFT: u32 = 16;
/// What no smaller float is nearest to anything but 0: 2^-23.
const LEAST: u32 = (127 - 23) << 23;

/// 256 numbers, of which the nearest stands for another.
#[derive(Debug)]
pub(super) struct DynamicCode {
    /// By code. With a sign, those of negative numbers have the highest bit; that bit alone is the code of 1.
    values: [f32; 256],
    /// 0, and the middles between the neighbours of `magnitudes`: `borders[i]` lies below magnitude `i`.
    borders: Vec<f32>,
    /// By the upper bits of a magnitude, the first that it may stand for.
    first: Vec<u8>,
    is_signed: bool,
}

/// For first moments.
pub(super) static SIGNED: LazyLock<DynamicCode> = LazyLock::new(|| DynamicCode::new(true));
/// For second moments.
pub(super) static UNSIGNED: LazyLock<DynamicCode> = LazyLock::new(|| DynamicCode::new(false));

impl DynamicCode {
    fn new(is_signed: bool) -> Self {
        let mut magnitudes = vec![0.0];
        for decade in 0..DECADES {
            let parts = 1 << (decade + i32::from(!is_signed));
            let unit = 10.0_f64.powi(decade - DECADES + 1);
            magnitudes.extend(
                (0..parts)
                    .map(|part| (unit * (0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts))) as f32),
            );
        }
        magnitudes.push(1.0);
        let mut values = [0.0; 256];
        for (code, value) in values.iter_mut().enumerate() {
            *value = match code {
                _ if !is_signed => magnitudes[code],
                0..=127 => magnitudes[code],
                128 => 1.0,
                _ => -magnitudes[code - 128],
            };
        }
        let borders: Vec<f32> = std::iter::once(0.0)
            .chain(magnitudes.windows(2).map(|pair| f32::midpoint(pair[0], pair[1])))
            .collect();
        let floats = LEAST >> SHIFT..=1.0_f32.to_bits() >> SHIFT;
        let first = floats
            .map(|upper| f32::from_bits(upper << SHIFT))
            .map(|least| (borders.partition_point(|border| *border <= least) - 1).min(255) as u8)
            .collect();
        Self { values, borders, first, is_signed }
    }

    pub(super) fn decode(&self, code: u8) -> f32 {
        self.values[usize::from(code)]
    }

    /// The code of the number nearest to `x`, which lies between -1 and 1; the larger magnitude where two are as near.
    pub(super) fn encode(&self, x: f32) -> u8 {
        let magnitude = x.abs();
        let upper = (magnitude.to_bits().max(LEAST) - LEAST) >> SHIFT;
        let first = usize::from(self.first[(upper as usize).min(self.first.len() - 1)]);
        let is_next = self.borders.get(first + 1).is_some_and(|border| magnitude >= *border);
        let index = (first + usize::from(is_next)) as u8;
        match (self.is_signed && x < 0.0, index) {
            (true, 1..=127) => index | 128,
            // There is no -1.
            (true, 128) => 255,
            _ => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_256_numbers_and_stand_for_themselves() {
        for (code, first) in [(&SIGNED, -0.992_968_75), (&UNSIGNED, 3.25e-7)] {
            let mut values = code.values;
            values.sort_by(f32::total_cmp);
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
            assert_eq!(values[255], 1.0);
            assert!((values.iter().find(|value| **value != 0.0).unwrap() / first - 1.0).abs() < 1e-6);
            for of in 0..=255 {
                assert_eq!(code.encode(code.decode(of)), of);
            }
        }
        // By hand: the first of 64 parts of 0.1 to 1, the only one of 1e-7 to 1e-6.
        assert!((SIGNED.decode(64) - (0.1 + 0.9 / 128.0)).abs() < 1e-7);
        assert!((SIGNED.decode(1) - 5.5e-7).abs() < 1e-12);
    }

    #[test]
    fn every_number_has_the_nearest_code() {
        let numbers = (0..200_000).map(|i| {
            let magnitude = 10.0_f32.powf(-9.0 * (i as f32 * 0.618_034).fract());
            if i % 2 == 0 { magnitude } else { -magnitude }
        });
        for x in numbers.chain([0.0, -0.0, 1.0, -1.0, f32::MIN_POSITIVE]) {
            for code in [&SIGNED, &UNSIGNED] {
                let x = if code.is_signed { x } else { x.abs() };
                let error = (code.decode(code.encode(x)) - x).abs();
                let least = code.values.iter().map(|value| (value - x).abs()).fold(f32::MAX, f32::min);
                assert!(error <= least * (1.0 + 1e-4), "{x}: {error} {least}");
            }
        }
    }
}
