//! Errors of Metal.

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong on the way to a Metal device, and on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This machine has none.
    #[error("no Metal device: {reason}")]
    NoDevice {
        /// Why.
        reason: String,
    },
    /// There is a device, and the kernels cannot run on it.
    #[error("{device}: {reason}")]
    Unsuitable {
        /// Name of the device.
        device: String,
        /// The fact.
        reason: String,
    },
    /// The device has no memory for it.
    #[error("the Metal device has no memory for {what}")]
    OutOfMemory {
        /// What was to be allocated, or run.
        what: String,
    },
    /// The device was removed, or taken away from this process.
    #[error("the Metal device is lost: {reason}")]
    DeviceLost {
        /// What the system says.
        reason: String,
    },
    /// A kernel cannot be compiled.
    #[error("Metal kernel {kernel}: {reason}")]
    Compile {
        /// Name of the kernel, or its file.
        kernel: String,
        /// What the compiler says.
        reason: String,
    },
    /// The device did not finish what it was given.
    #[error("the Metal device failed: {reason}")]
    Failed {
        /// What the system says.
        reason: String,
    },
}
