//! x86-64, one file per instruction set.
#![allow(clippy::wildcard_imports, reason = "intrinsics, whose names say where they come from")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one contract for all: see the comment on each implementation"
)]

pub(super) mod avx2;
pub(super) mod avx512vnni;
pub(super) mod avxvnni;
mod bytes;
pub(super) mod sse41;
