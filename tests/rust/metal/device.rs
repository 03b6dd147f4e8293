//! Where the kernels run.

use std::sync::Arc;

/// In which ways a test runs, where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpus {
    /// In one.
    One,
    /// With threads, and dispatches side by side, in different orders.
    Orders,
}

#[cfg(feature = "metal-harness")]
pub use bitnet_metal::harness::Harness as Device;

/// The library of the kernels.
#[cfg(feature = "metal-harness")]
pub fn gpus(which: Gpus) -> Vec<Arc<Device>> {
    use bitnet_metal::harness::{LIBRARY_VARIABLE, Order};
    let path = std::env::var_os(LIBRARY_VARIABLE)
        .unwrap_or_else(|| panic!("{LIBRARY_VARIABLE} names no library: see tests/cross/run.sh"));
    let orders: &[Order] = match which {
        Gpus::One => &[Order::Forward],
        Gpus::Orders => &[Order::Forward, Order::Reverse, Order::Random(7)],
    };
    orders.iter().map(|order| Arc::new(Device::load(path.as_ref(), *order).unwrap())).collect()
}

#[cfg(not(feature = "metal-harness"))]
pub use bitnet_metal::MetalGpu as Device;

/// The GPU of this machine; none on one without, unless it has to have one.
#[cfg(not(feature = "metal-harness"))]
pub fn gpus(_: Gpus) -> Vec<Arc<Device>> {
    match Device::open() {
        Ok(gpu) => vec![Arc::new(gpu)],
        Err(error) if std::env::var_os("BITNET_METAL").is_some_and(|value| value == "required") => {
            panic!("{error}")
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            Vec::new()
        }
    }
}
