//! Device discovery through objc2-metal.

use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLCopyAllDevices, MTLCreateSystemDefaultDevice, MTLDevice};

use crate::{DeviceInfo, Error, Result};

/// All devices, the default first.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>> {
    let Some(default) = MTLCreateSystemDefaultDevice() else {
        return Err(Error::NoDevice { reason: "the system names none" });
    };
    let mut all = vec![info(&default)];
    let others = MTLCopyAllDevices().into_iter().filter(|device| device.registryID() != default.registryID());
    all.extend(others.map(|device| info(&device)));
    Ok(all)
}

fn info(device: &ProtocolObject<dyn MTLDevice>) -> DeviceInfo {
    DeviceInfo {
        name: device.name().to_string(),
        has_unified_memory: device.hasUnifiedMemory(),
        recommended_working_set_bytes: device.recommendedMaxWorkingSetSize(),
        max_threads_per_threadgroup: device.maxThreadsPerThreadgroup().width,
        max_threadgroup_memory_bytes: device.maxThreadgroupMemoryLength(),
    }
}
