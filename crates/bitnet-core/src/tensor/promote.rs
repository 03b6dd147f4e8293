//! The type that two operands have in common.

use crate::DType;
use crate::DType::{BF16, Bool, F16, F32, I8, I32, I64, Ternary, U8};

/// The smallest type of ours that holds the elements of both, by the rules of NumPy 2 (NEP 50) as far as the types go.
///
/// Where NumPy would take one that there is not: `i8` and `u8` give `i32` (NumPy: int16), and where it would go on to
/// float64, `f32` is the widest float, also beside `i32` and `i64`, whose elements above 2^24 it rounds. `f16` and
/// `bf16` give `f32`; 8-bit integers fit both, and leave them. A Python number, or a [`Scalar`](super::Scalar), is
/// weak: see [`Operand`](super::Operand). `ternary` stays, and arithmetic refuses it.
pub fn promote(a: DType, b: DType) -> DType {
    match (a, b) {
        _ if a == b => a,
        (Ternary, _) | (_, Ternary) => Ternary,
        (Bool, other) | (other, Bool) => other,
        (half @ (F16 | BF16), I8 | U8) | (I8 | U8, half @ (F16 | BF16)) => half,
        _ if a.is_float() || b.is_float() => F32,
        (I64, _) | (_, I64) => I64,
        _ => I32,
    }
}

/// The type of a function of real numbers, such as the exponential: floats keep theirs, all others give `f32` (NumPy:
/// float16 to float64, by the size of the integer).
pub(super) fn to_float(dtype: DType) -> DType {
    if dtype.is_float() { dtype } else { F32 }
}
