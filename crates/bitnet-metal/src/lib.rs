//! Metal: today the devices of this machine and what they offer. Off macOS there are none, and nothing breaks.

mod device;
mod error;
#[cfg(target_os = "macos")]
mod macos;

pub use device::{DeviceInfo, devices};
pub use error::{Error, Result};
