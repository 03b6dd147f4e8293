//! Metal: devices, memory that they share with the CPU, the kernels of `metal/`, and steps of their
//! dispatches.
//!
//! Off macOS there is no device, and nothing breaks: shapes and dispatches are plain Rust, and tests run the
//! kernels on a CPU (feature `harness`).

mod device;
mod error;
mod gpu;
#[cfg(feature = "harness")]
pub mod harness;
pub mod kernels;
#[cfg(target_os = "macos")]
mod macos;
pub mod panels;
pub mod source;
mod step;

pub use device::{DeviceInfo, devices};
pub use error::{Error, Result};
pub use gpu::{Constant, ConstantValue, Gpu, Memory};
#[cfg(target_os = "macos")]
pub use macos::{MetalGpu, MetalMemory, MetalPipeline};
pub use step::{Binding, Bindings, Dispatch, MOST_BUFFERS, MOST_WORDS, Params, Step};
