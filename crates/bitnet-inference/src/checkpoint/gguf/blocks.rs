//! Float tensors in blocks of small integers, widened to float16: embeddings and heads are published so.
//!
//! A weight is `scale * code`, for `Q4_K` `scale * code - minimum`. Float16 holds it to 11 bits, a hundredth of the
//! step between two codes. Sources: llama.cpp, `ggml-quants.c` (`dequantize_row_*`) and `ggml-common.h`.

use bitnet_core::{Buffer, Pages};
use half::f16;

use super::tensor_type::TensorType;
use crate::Result;

/// Weights of the largest block.
const WEIGHTS: usize = 256;

/// The weights of a tensor in blocks. The inner error is the index of the first weight beyond float16.
///
/// Errors: [`bitnet_core::Error::OutOfMemory`].
pub(super) fn widen(tensor_type: TensorType, bytes: &[u8]) -> Result<Result<Buffer, usize>> {
    let decode: fn(&[u8], &mut [f32]) = match tensor_type {
        TensorType::Q4_0 => q4_0,
        TensorType::Q8_0 => q8_0,
        TensorType::Q4_K => q4_k,
        TensorType::Q6_K => q6_k,
        other => unreachable!("{} has no blocks of floats", other.name()),
    };
    let (weights, size) = tensor_type.block();
    let mut pages = Pages::zeroed(bytes.len() / size * weights * size_of::<f16>())?;
    let mut wide = [0.0; WEIGHTS];
    let outs = pages.as_mut_slice().chunks_exact_mut(weights * size_of::<f16>());
    for (index, (block, out)) in bytes.chunks_exact(size).zip(outs).enumerate() {
        decode(block, &mut wide[..weights]);
        for (i, (weight, out)) in wide.iter().zip(out.chunks_exact_mut(size_of::<f16>())).enumerate() {
            let narrow = f16::from_f32(*weight);
            if !narrow.is_finite() {
                return Ok(Err(index * weights + i));
            }
            out.copy_from_slice(&narrow.to_le_bytes());
        }
    }
    Ok(Ok(Buffer::from_owner(pages)))
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// A scale, then 32 codes of 4 bits, `w = scale * (code - 8)`: low halves first, then high halves.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        out[i] = scale * f32::from((byte & 15) as i8 - 8);
        out[16 + i] = scale * f32::from((byte >> 4) as i8 - 8);
    }
}

/// A scale, then 32 signed bytes.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (out, byte) in out.iter_mut().zip(&block[2..]) {
        *out = scale * f32::from(*byte as i8);
    }
}

/// A scale and a minimum for all, eight scales and minima of 6 bits, then eight runs of 32 codes of 4 bits.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let packed = &block[4..16];
    for run in 0..8 {
        let (s, m) = if run < 4 {
            (packed[run] & 63, packed[run + 4] & 63)
        } else {
            let high = |byte: u8| byte >> 6 << 4;
            let (low, both) = (packed[run - 4], packed[run + 4]);
            ((both & 15) | high(low), (both >> 4) | high(packed[run]))
        };
        let (s, m) = (scale * f32::from(s), minimum * f32::from(m));
        // A byte holds a code of an even run below, one of the next run above.
        let codes = &block[16 + run / 2 * 32..][..32];
        for (out, byte) in out[32 * run..].iter_mut().zip(codes) {
            *out = s * f32::from(byte >> (4 * (run % 2)) & 15) - m;
        }
    }
}

/// Low 4 bits of 256 codes, their high 2 bits, sixteen signed scales, a scale for all; `w = scale * (code - 32)`.
pub(crate) fn q6_k(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let ((low, low_shift), (high, high_shift)) = q6_k_place(i);
        let code = (block[low] >> low_shift & 15 | (block[high] >> high_shift & 3) << 4) as i8 - 32;
        *out = scale * f32::from(block[192 + i / 16] as i8) * f32::from(code);
    }
}

/// Where `Q6_K` has code `i`: byte and shift of its low 4 bits, and of its high 2 bits.
pub(crate) fn q6_k_place(i: usize) -> ((usize, usize), (usize, usize)) {
    let (part, run, lane) = (i / 128, i % 128 / 32, i % 32);
    ((64 * part + 32 * (run % 2) + lane, 4 * (run / 2)), (128 + 32 * part + lane, 2 * run))
}
