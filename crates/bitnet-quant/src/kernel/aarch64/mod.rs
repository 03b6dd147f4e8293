//! 64-bit ARM.
pub(super) mod dotprod;
