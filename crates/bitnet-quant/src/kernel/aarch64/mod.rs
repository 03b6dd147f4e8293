//! 64-bit ARM, one file per instruction set.
#![allow(clippy::wildcard_imports, reason = "intrinsics, whose names say where they come from")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one contract for all: see the comment on each implementation"
)]

mod bytes;
pub(super) mod dotprod;
pub(super) mod i8mm;
pub(super) mod neon;
