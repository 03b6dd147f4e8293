//! Golden bytes of the formats, and what every codec must do.

use proptest::prelude::*;
use ring::digest::{SHA256, digest};

use super::*;
use crate::{Granularity, Packing, Scales};

fn pool() -> ThreadPool {
    ThreadPool::new(2).unwrap()
}

/// `w[i] = ((7 i + i / 5) mod 3) - 1`, 256 values.
fn pattern(rows: usize, cols: usize) -> TernaryMatrix {
    let codes: Vec<i8> = (0..256).map(|i| ((7 * i + i / 5) % 3) as i8 - 1).collect();
    TernaryMatrix::from_codes(rows, cols, &codes, 1.5).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Rows and columns that a codec can store.
fn shape_for(codec: Codec, rows: usize, cols: usize) -> (usize, usize) {
    match codec.layout() {
        Some(layout) if !layout.is_ragged && layout.scale != ScalePlace::Tail => {
            (rows, cols.next_multiple_of(layout.codes))
        }
        Some(layout) if layout.scale == ScalePlace::Tail => {
            (rows.next_multiple_of(layout.codes / 4), 4 * cols)
        }
        _ => (rows, cols),
    }
}

/// A matrix of any codes, from a seed.
fn random(rows: usize, cols: usize, seed: u64, scales: impl Into<Scales>) -> TernaryMatrix {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let codes: Vec<i8> = (0..rows * cols)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8 % 3
        })
        .map(|code| code as i8 - 1)
        .collect();
    TernaryMatrix::from_codes(rows, cols, &codes, scales).unwrap()
}

/// Digests of bytes that gguf-py (`TQ1_0`, `TQ2_0`) and transcriptions of the C encoders of the other formats give.
#[test]
fn golden_bytes() {
    let cases = [
        (Codec::I2S, 1, 256, "86428007b13437d6"),
        (Codec::HfPacked, 64, 4, "58d5d93fb2c09009"),
        (Codec::Tq1_0, 1, 256, "c15393dbfd2076f1"),
        (Codec::Tq2_0, 1, 256, "7b89cc896db200ee"),
        (Codec::Iq1Bn, 1, 256, "565b0c44d98d50bf"),
        (Codec::Iq2Bn, 1, 256, "9bb1a99147b2cd22"),
        (Codec::Q2_0, 1, 256, "efb13183e5b41f16"),
    ];
    for (codec, rows, cols, golden) in cases {
        let bytes = codec.encode(&pool(), &pattern(rows, cols)).unwrap();
        let payload = if codec == Codec::I2S { &bytes[..64] } else { &bytes };
        assert_eq!(hex(&digest(&SHA256, payload).as_ref()[..8]), golden, "{codec}");
    }
    let tail = &Codec::I2S.encode(&pool(), &pattern(1, 256)).unwrap()[64..];
    assert_eq!(hex(tail), format!("0000c03f{}", "00".repeat(28)));
}

#[test]
fn size_formulas() {
    let len = |codec: Codec| codec.byte_len(2560, 6912).unwrap();
    let codes = 2560 * 6912;
    assert_eq!(len(Codec::HfPacked), codes / 4);
    assert_eq!(len(Codec::I2S), codes / 4 + 32);
    assert_eq!(len(Codec::Tq1_0), codes / 256 * 54);
    assert_eq!(len(Codec::Tq2_0), codes / 256 * 66);
    assert_eq!(len(Codec::Q2_0), codes / 64 * 18);
    assert_eq!(len(Codec::Iq1Bn), 2560 * (2 + 6912 / 64 * 13));
    assert_eq!(len(Codec::Iq2Bn), 2560 * (4 + 6912 / 64 * 16));
    assert_eq!(len(Codec::Base3), 2560 * 1383);
    assert_eq!(len(Codec::Bitmap), codes / 4);
}

#[test]
fn shapes_that_do_not_divide_are_refused() {
    let message = |codec: Codec| codec.byte_len(3, 100).unwrap_err().to_string();
    assert_eq!(message(Codec::Tq2_0), "tq2_0 stores blocks of 256 codes; 3 x 100 does not divide into them");
    assert!(Codec::I2S.byte_len(32, 100).is_ok());
    assert_eq!(message(Codec::I2S), "i2_s stores blocks of 128 codes; 3 x 100 does not divide into them");
    assert!(Codec::I2S.byte_len(usize::MAX, 128).is_err());
    let claim = Codec::Tq1_0.decode(&pool(), 1 << 40, 256, &vec![0_u8; 54].into()).unwrap_err();
    assert!(matches!(claim, Error::Length { .. }), "{claim}");
}

#[test]
fn scales_finer_than_a_format_has_them_are_refused() {
    let rows = random(2, 256, 1, Scales::Rows(vec![1.0, 2.0]));
    let error = Codec::I2S.encode(&pool(), &rows).unwrap_err().to_string();
    assert_eq!(error, "i2_s takes one scale; the matrix has a scale per row");
    let groups = random(1, 256, 1, Scales::Groups { cols: 64, values: vec![1.0, 2.0, 3.0, 4.0] });
    assert!(matches!(Codec::Iq2Bn.encode(&pool(), &groups), Err(Error::Granularity { .. })));
    assert!(matches!(Codec::Tq1_0.encode(&pool(), &groups), Err(Error::Granularity { .. })));
    for scale in [1e-9, 1e9] {
        let matrix = random(1, 256, 1, scale);
        assert_eq!(Codec::Tq2_0.encode(&pool(), &matrix), Err(Error::InvalidScale(scale)));
    }
}

#[test]
fn scales_that_agree_become_one_and_blocks_of_zeros_have_none_of_their_own() {
    let mut codes = random(2, 512, 7, 1.0).codes();
    codes[512..768].fill(0);
    let matrix = TernaryMatrix::from_codes(2, 512, &codes, 0.5).unwrap();
    let bytes = Codec::Tq2_0.encode(&pool(), &matrix).unwrap();
    let decode = |bytes: &[u8]| Codec::Tq2_0.decode(&pool(), 2, 512, &bytes.to_vec().into());
    assert_eq!(decode(&bytes).unwrap().scales(), &Scales::Tensor(0.5));
    let scale_at = |block: usize| 66 * block + 64;
    let with = |scales: &[(usize, [u8; 2])]| {
        let mut bytes = bytes.clone();
        for (block, half) in scales {
            bytes[scale_at(*block)..][..2].copy_from_slice(half);
        }
        decode(&bytes)
    };
    let (zero, one, negative) = ([0, 0], [0, 0x3c], [0, 0xbc]);
    assert_eq!(with(&[(2, zero)]).unwrap().scales(), &Scales::Tensor(0.5));
    assert_eq!(with(&[(2, zero), (3, one)]).unwrap().scales(), &Scales::Rows(vec![0.5, 1.0]));
    let groups = Scales::Groups { cols: 256, values: vec![0.5, 1.0, 0.5, 0.5] };
    assert_eq!(with(&[(1, one), (2, zero)]).unwrap().scales(), &groups);
    for bad in [zero, negative, [0, 0x7c], [1, 0x7c]] {
        assert!(matches!(with(&[(3, bad)]), Err(Error::BlockScale { row: 1, col: 256, .. })));
    }
    let zeros = TernaryMatrix::from_codes(1, 256, &[0; 256], 1.0).unwrap();
    let mut bytes = Codec::Q2_0.encode(&pool(), &zeros).unwrap();
    bytes.chunks_mut(18).for_each(|block| block[..2].fill(0));
    let decoded = Codec::Q2_0.decode(&pool(), 1, 256, &bytes.into()).unwrap();
    assert_eq!(decoded.codes(), [0; 256]);
}

#[test]
fn bytes_that_no_codes_encode_to_are_named() {
    let first_bad = |codec: Codec, at: usize, byte: u8| {
        let mut bytes = codec.encode(&pool(), &pattern(1, 256)).unwrap();
        bytes[at] = byte;
        codec.decode(&pool(), 1, 256, &bytes.into()).unwrap_err()
    };
    let invalid = |col| Error::InvalidCode { row: 0, col, code: 3 };
    assert_eq!(first_bad(Codec::I2S, 33, 0b0011_0000), invalid(128 + 32 + 1));
    assert_eq!(first_bad(Codec::I2SArm, 17, 0b0011_0000), invalid(64 + 16 + 1));
    assert_eq!(first_bad(Codec::Tq2_0, 33, 0b0000_1100), invalid(128 + 32 + 1));
    assert_eq!(first_bad(Codec::Q2_0, 18 + 2 + 3, 0b0011_0000), invalid(64 + 14));
    assert_eq!(first_bad(Codec::Iq2Bn, 4 + 17, 0b0000_1100), invalid(64 + 16 + 1));
    assert_eq!(first_bad(Codec::Base3, 3, 1), invalid(15));
    assert_eq!(first_bad(Codec::Tq1_0, 40, 20), invalid(168));
    assert_eq!(first_bad(Codec::Tq1_0, 49, Packing::Base3.encode([1, 1, 1, 1, 1])), invalid(241));
    assert_eq!(first_bad(Codec::Iq1Bn, 2 + 13 + 4, 1), invalid(64 + 16 + 5));
    assert_eq!(first_bad(Codec::Iq1Bn, 2 + 12, Packing::Base3.encode([1, 1, 1, 1, 1])), invalid(15));
    let thirteen = (0..=255_u8).filter(|byte| byte.wrapping_mul(243) >= 243);
    let encoded: Vec<u8> = (0..243_u16).map(|n| (256 * n).div_ceil(243) as u8).collect();
    assert!(thirteen.clone().all(|byte| !encoded.contains(&byte)) && thirteen.count() == 13);
}

proptest! {
    #[test]
    fn every_codec_round_trips(rows in 1_usize..40, cols in 1_usize..400, seed: u64, scale in 0.001_f32..100.0) {
        for codec in Codec::ALL {
            let (rows, cols) = shape_for(codec, rows, cols);
            let matrix = random(rows, cols, seed, scale);
            let bytes = codec.encode(&pool(), &matrix).unwrap();
            let len = codec.byte_len(rows, cols).unwrap();
            prop_assert!(bytes.len() == len || codec == Codec::Bitmap && bytes.len() <= len, "{}", codec);
            let again = codec.decode(&pool(), rows, cols, &bytes.clone().into()).unwrap();
            prop_assert_eq!(again.codes(), matrix.codes(), "{}", codec);
            let stored = match codec {
                Codec::I2S | Codec::I2SArm | Codec::Iq2Bn => scale,
                _ if codec.stores_scales() => half::f16::from_f32(scale).to_f32(),
                _ => 1.0,
            };
            prop_assert_eq!(again.scales(), &Scales::Tensor(stored), "{}", codec);
            prop_assert_eq!(codec.encode(&pool(), &again.with_scales(scale).unwrap()).unwrap(), bytes);
        }
    }

    #[test]
    fn scales_of_rows_and_groups_round_trip(rows in 1_usize..8, blocks in 1_usize..5, seed: u64) {
        let cols = 256 * blocks;
        let values = |count: usize| (0..count).map(|i| 1.0 + ((seed as usize + i) % 64) as f32 / 8.0).collect();
        let of_rows = random(rows, cols, seed, Scales::new(Granularity::Row, rows, cols, values(rows)).unwrap());
        for codec in [Codec::Tq1_0, Codec::Tq2_0, Codec::Q2_0, Codec::Iq1Bn, Codec::Iq2Bn] {
            let bytes = codec.encode(&pool(), &of_rows).unwrap();
            let again = codec.decode(&pool(), rows, cols, &bytes.into()).unwrap();
            for row in 0..rows {
                prop_assert_eq!(again.scales().over(row, 0..cols, cols), of_rows.scales().over(row, 0..cols, cols));
            }
        }
        let scales = Scales::Groups { cols: 256, values: values(rows * blocks) };
        let of_groups = random(rows, cols, seed, scales);
        for codec in [Codec::Tq1_0, Codec::Tq2_0, Codec::Q2_0] {
            let bytes = codec.encode(&pool(), &of_groups).unwrap();
            let again = codec.decode(&pool(), rows, cols, &bytes.into()).unwrap();
            for (row, block) in (0..rows).flat_map(|row| (0..4 * blocks).map(move |block| (row, block))) {
                let columns = 64 * block..64 * (block + 1);
                let expected = of_groups.scales().over(row, columns.clone(), cols);
                prop_assert_eq!(again.scales().over(row, columns, cols), expected);
            }
        }
    }

    #[test]
    fn any_bytes_decode_or_are_an_error(rows in 1_usize..6, cols in 1_usize..300, bytes: Vec<u8>) {
        for codec in Codec::ALL {
            let (rows, cols) = shape_for(codec, rows, cols);
            drop(codec.decode(&pool(), rows, cols, &bytes.clone().into()));
            let mut padded = bytes.clone();
            padded.resize(codec.byte_len(rows, cols).unwrap(), 0x15);
            if let Ok(matrix) = codec.decode(&pool(), rows, cols, &padded.into()) {
                prop_assert!(matrix.codes().iter().all(|code| (-1..=1).contains(code)));
            }
        }
    }

    #[test]
    fn cut_bytes_are_refused(cut in 1_usize..64) {
        for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::Bitmap) {
            let mut bytes = codec.encode(&pool(), &pattern(1, 256)).unwrap();
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            let result = codec.decode(&pool(), 1, 256, &bytes.into());
            prop_assert!(matches!(result, Err(Error::Length { .. })), "{}", codec);
        }
    }
}

#[test]
fn names_round_trip() {
    for codec in Codec::ALL {
        assert_eq!(codec.name().parse(), Ok(codec));
    }
    let error = "q4_0".parse::<Codec>().unwrap_err().to_string();
    assert!(error.starts_with("unknown format \"q4_0\"; known: hf, i2_s,"), "{error}");
}
