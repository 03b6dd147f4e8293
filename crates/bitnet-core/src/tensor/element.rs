//! The Rust types of elements, what each can do, and the dispatch from a [`DType`] to its type.

use std::fmt;

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use crate::DType;

/// A truth value of one byte. Every byte but 0 is true, whatever a file holds.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub struct Bool(u8);

#[expect(unsafe_code, reason = "asserts the layout")]
// SAFETY: a transparent wrapper of a byte, of which every value is valid.
unsafe impl Zeroable for Bool {}
#[expect(unsafe_code, reason = "asserts the layout")]
// SAFETY: as above.
unsafe impl Pod for Bool {}

impl Bool {
    /// As Rust's type.
    pub fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self(value.into())
    }
}

impl PartialEq for Bool {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl PartialOrd for Bool {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.get().partial_cmp(&other.get())
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A type of elements.
pub trait Element: Pod + Send + Sync + PartialOrd + Default + fmt::Debug {
    /// Its name at run time.
    const DTYPE: DType;
    /// Least of the type; for floats, below every number.
    const LOWEST: Self;
    /// Greatest of the type; for floats, above every number.
    const HIGHEST: Self;
    /// The type of functions of real numbers: floats keep theirs, all others give `f32`.
    type Real: Element;

    /// As float32: exact for floats and small integers, else the nearest.
    fn to_f32(self) -> f32;
    /// As an integer: floats are cut towards 0, saturate, and NaN is 0.
    fn to_i64(self) -> i64;
    /// The nearest element; for integers, cut towards 0 and saturating, NaN is 0.
    fn from_f32(value: f32) -> Self;
    /// The same number modulo the range of integers; the nearest float.
    fn from_i64(value: i64) -> Self;

    /// Whether it is other than 0; NaN is.
    fn is_true(self) -> bool {
        self != Self::default()
    }

    /// Whether it is NaN.
    fn is_nan(self) -> bool {
        self.partial_cmp(&self).is_none()
    }

    /// The conversion of [`Tensor::to_dtype`](crate::Tensor::to_dtype).
    fn cast<U: Element>(self) -> U {
        if U::DTYPE.is_float() || Self::DTYPE.is_float() {
            U::from_f32(self.to_f32())
        } else {
            U::from_i64(self.to_i64())
        }
    }
}

impl Element for f32 {
    type Real = Self;
    const DTYPE: DType = DType::F32;
    const LOWEST: Self = Self::NEG_INFINITY;
    const HIGHEST: Self = Self::INFINITY;

    fn to_f32(self) -> f32 {
        self
    }
    fn to_i64(self) -> i64 {
        self as i64
    }
    fn from_f32(value: f32) -> Self {
        value
    }
    fn from_i64(value: i64) -> Self {
        value as f32
    }
}

macro_rules! half_element {
    ($($type:ident $dtype:ident),*) => {$(
        impl Element for $type {
            type Real = Self;
            const DTYPE: DType = DType::$dtype;
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;

            fn to_f32(self) -> f32 {
                $type::to_f32(self)
            }
            fn to_i64(self) -> i64 {
                $type::to_f32(self) as i64
            }
            fn from_f32(value: f32) -> Self {
                $type::from_f32(value)
            }
            fn from_i64(value: i64) -> Self {
                $type::from_f32(value as f32)
            }
        }
    )*};
}

half_element!(f16 F16, bf16 BF16);

macro_rules! integer_element {
    ($($type:ident $dtype:ident),*) => {$(
        impl Element for $type {
            type Real = f32;
            const DTYPE: DType = DType::$dtype;
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;

            fn to_f32(self) -> f32 {
                self as f32
            }
            fn to_i64(self) -> i64 {
                self as i64
            }
            fn from_f32(value: f32) -> Self {
                value as Self
            }
            fn from_i64(value: i64) -> Self {
                value as Self
            }
        }
    )*};
}

integer_element!(i8 I8, u8 U8, i32 I32, i64 I64);

impl Element for Bool {
    type Real = f32;
    const DTYPE: DType = DType::Bool;
    const LOWEST: Self = Self(0);
    const HIGHEST: Self = Self(1);

    fn to_f32(self) -> f32 {
        self.get().into()
    }
    fn to_i64(self) -> i64 {
        self.get().into()
    }
    fn from_f32(value: f32) -> Self {
        (value != 0.0).into()
    }
    fn from_i64(value: i64) -> Self {
        (value != 0).into()
    }
}

/// Evaluates an expression with `$element` standing for the Rust type of a [`DType`]; returns [`Error::Packed`] from the
/// function around it for a packed one,
/// [`Error::DType`] for one that is only stored.
///
/// [`Error::Packed`]: crate::Error::Packed
/// [`Error::DType`]: crate::Error::DType
macro_rules! dispatch {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => $crate::tensor::element::with!(f32, $element => $body),
            $crate::DType::F16 => $crate::tensor::element::with!(half::f16, $element => $body),
            $crate::DType::BF16 => $crate::tensor::element::with!(half::bf16, $element => $body),
            $crate::DType::I8 => $crate::tensor::element::with!(i8, $element => $body),
            $crate::DType::U8 => $crate::tensor::element::with!(u8, $element => $body),
            $crate::DType::I32 => $crate::tensor::element::with!(i32, $element => $body),
            $crate::DType::I64 => $crate::tensor::element::with!(i64, $element => $body),
            $crate::DType::Bool => $crate::tensor::element::with!($crate::tensor::Bool, $element => $body),
            $crate::DType::Ternary => return Err($crate::Error::Packed),
            got @ $crate::DType::F64 => {
                return Err($crate::Error::DType { expected: "a type to compute with", got });
            }
        }
    };
}

/// [`dispatch`] over the floating-point types, with [`Error::DType`] for all others.
///
/// [`Error::DType`]: crate::Error::DType
macro_rules! dispatch_float {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => $crate::tensor::element::with!(f32, $element => $body),
            $crate::DType::F16 => $crate::tensor::element::with!(half::f16, $element => $body),
            $crate::DType::BF16 => $crate::tensor::element::with!(half::bf16, $element => $body),
            got => return Err($crate::Error::DType { expected: "a floating-point type", got }),
        }
    };
}

macro_rules! with {
    ($type:ty, $element:ident => $body:expr) => {{
        type $element = $type;
        $body
    }};
}

pub(super) use {dispatch, dispatch_float, with};
