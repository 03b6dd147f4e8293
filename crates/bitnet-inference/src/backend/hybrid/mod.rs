//! Several backends as one: the layers of a model split over them, or prompts on one and single tokens on another.
//!
//! Both give the bits of the backends they are made of. Today all of these are CPUs: with other threads, another
//! instruction set, other packing.

mod cost;
mod device;
mod layers;
mod phases;
mod plan;
#[cfg(test)]
mod tests;

pub use cost::DeviceCost;
pub use device::HybridDevice;
pub use layers::{HybridBackend, Part};
pub use phases::{PREFILL_TOKENS, PhasedBackend};
pub use plan::{Plan, PlannedPart};

use crate::Error;

/// The error of a part of a hybrid, by the part's name. What an engine acts on keeps its type.
fn failed(part: &str, error: Error) -> Error {
    let reason = match error {
        Error::OutOfMemory { .. } | Error::TokenOutOfRange { .. } | Error::NotFinite { .. } => return error,
        Error::Backend { reason, .. } => reason,
        error => error.to_string(),
    };
    Error::Backend { name: part.to_owned(), reason }
}
