//! Random content of a large model in seconds: counted, so that every thread writes its own part of the same content.

use half::bf16;

/// Number `index` of the stream `seed` (`SplitMix64`, doi 10.1145/2660193.2660195).
pub(crate) fn number(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A seed from a name (FNV-1a).
pub(crate) fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// `len` bytes of four ternary codes each: 102 of 256 are zero, about as many as in trained models, the others half
/// 1 and half -1.
pub(super) fn codes(seed: u64, len: usize, threads: usize) -> Vec<u8> {
    let pairs = pairs();
    fill(len, threads, |index, bytes| {
        let number = number(seed, index).to_le_bytes();
        for (byte, pair) in bytes.iter_mut().zip(number.as_chunks::<2>().0) {
            *byte = pairs[usize::from(pair[0])] | pairs[usize::from(pair[1])] << 4;
        }
    })
}

/// `len / 2` bfloat16 numbers of mean 0 and standard deviation `std`: sums of four uniform ones.
pub(super) fn normal_bf16(seed: u64, len: usize, std: f32, threads: usize) -> Vec<u8> {
    // A uniform 16-bit number has the variance 65536^2 / 12.
    let factor = std / (4.0_f32 / 12.0).sqrt() / 65536.0;
    fill(len, threads, |index, bytes| {
        for (at, element) in bytes.chunks_exact_mut(2).enumerate() {
            let number = number(seed, index * 2 + at as u64);
            let sum: i32 = (0..4).map(|part| i32::from((number >> (16 * part)) as i16)).sum();
            element.copy_from_slice(&bf16::from_f32((sum + 2) as f32 * factor).to_le_bytes());
        }
    })
}

/// Bytes that `write(index, part)` gives, part by part of four bytes (the last may be shorter).
fn fill(len: usize, threads: usize, write: impl Fn(u64, &mut [u8]) + Sync) -> Vec<u8> {
    const PART: usize = 4;
    let mut bytes = vec![0; len];
    let share = len.div_ceil(threads).next_multiple_of(PART).max(PART);
    std::thread::scope(|scope| {
        for (thread, bytes) in bytes.chunks_mut(share).enumerate() {
            let write = &write;
            scope.spawn(move || {
                let first = thread * share / PART;
                for (at, part) in bytes.chunks_mut(PART).enumerate() {
                    write((first + at) as u64, part);
                }
            });
        }
    });
    bytes
}

/// Two codes for each random byte, in proportion to 0.3, 0.4, 0.3 for -1, 0, 1 (stored as 0, 1, 2).
fn pairs() -> [u8; 256] {
    // Of 256: 0.3 x 0.3 = 23.04, 0.3 x 0.4 = 30.72, 0.4 x 0.4 = 40.96.
    const COUNTS: [[usize; 3]; 3] = [[23, 31, 23], [31, 40, 31], [23, 31, 23]];
    let codes = (0..3_u8).flat_map(|high| (0..3_u8).map(move |low| (high, low)));
    let repeated = codes.flat_map(|(high, low)| {
        std::iter::repeat_n(high << 2 | low, COUNTS[usize::from(high)][usize::from(low)])
    });
    let mut pairs = [0; 256];
    for (pair, value) in pairs.iter_mut().zip(repeated) {
        *pair = value;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ternary_in_the_right_proportions() {
        let bytes = codes(7, 100_000, 2);
        let mut counts = [0_usize; 4];
        for byte in &bytes {
            for i in 0..4 {
                counts[usize::from(byte >> (2 * i) & 3)] += 1;
            }
        }
        let share = |code: usize| counts[code] as f64 / 400_000.0;
        assert_eq!(counts[3], 0);
        assert!((share(1) - 102.0 / 256.0).abs() < 0.005, "{counts:?}");
        assert!((share(0) - share(2)).abs() < 0.005, "{counts:?}");
    }

    #[test]
    fn numbers_have_the_deviation_asked_for() {
        let bytes = normal_bf16(7, 200_000, 0.05, 2);
        let numbers: Vec<f64> =
            bytes.as_chunks::<2>().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f64()).collect();
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
        assert!(mean.abs() < 0.001, "{mean}");
        assert!((variance.sqrt() - 0.05).abs() < 0.001, "{variance}");
    }

    #[test]
    fn content_does_not_depend_on_the_threads() {
        for len in [0, 2, 6, 1000] {
            assert_eq!(codes(1, len, 1), codes(1, len, 3));
            assert_eq!(normal_bf16(1, len, 1.0, 1), normal_bf16(1, len, 1.0, 3));
        }
        assert_ne!(codes(1, 100, 1), codes(2, 100, 1));
    }
}
