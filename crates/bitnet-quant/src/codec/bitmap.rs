//! Which weights are not zero, then their signs: what a sparse format would take.

use bitnet_core::ThreadPool;

use crate::{Error, Result, TernaryMatrix};

pub(super) fn encode(matrix: &TernaryMatrix) -> Vec<u8> {
    let codes = matrix.codes();
    let is_nonzero: Vec<bool> = codes.iter().map(|code| *code != 0).collect();
    let is_negative: Vec<bool> = codes.iter().filter(|code| **code != 0).map(|code| *code < 0).collect();
    [bits(&is_nonzero), bits(&is_negative)].concat()
}

pub(super) fn decode(pool: &ThreadPool, rows: usize, cols: usize, bytes: &[u8]) -> Result<TernaryMatrix> {
    let len = rows * cols;
    let length = |expected| Error::Length { what: "bitmap", expected, got: bytes.len() };
    let (mask, signs) = bytes.split_at_checked(len.div_ceil(8)).ok_or_else(|| length(len.div_ceil(8)))?;
    let nonzeros = (0..len).filter(|&at| bit(mask, at)).count();
    if signs.len() != nonzeros.div_ceil(8) {
        return Err(length(mask.len() + nonzeros.div_ceil(8)));
    }
    let mut next = 0..nonzeros;
    let code = |at| match bit(mask, at).then(|| next.next()).flatten() {
        Some(nonzero) if bit(signs, nonzero) => 0,
        Some(_) => 2,
        None => 1,
    };
    let codes: Vec<u8> = (0..len).map(code).collect();
    TernaryMatrix::from_rows(pool, rows, cols, 1.0, |(), row, out| {
        out.copy_from_slice(&codes[row * cols..][..cols]);
    })
}

/// Eight to a byte, lowest first.
fn bits(values: &[bool]) -> Vec<u8> {
    let byte = |values: &[bool]| values.iter().rev().fold(0, |byte, &value| byte << 1 | u8::from(value));
    values.chunks(8).map(byte).collect()
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes[at / 8] >> (at % 8) & 1 != 0
}
