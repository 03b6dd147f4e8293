//! Errors of Metal.

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong on the way to a Metal device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This machine has none.
    #[error("no Metal device: {reason}")]
    NoDevice {
        /// Why.
        reason: &'static str,
    },
}
