//! Metal devices by way of objc2-metal.
#![expect(unsafe_code, reason = "Objective-C: memory that is shared with the device, arguments by number")]

mod archive;
mod library;
mod memory;
mod run;

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLCommandQueue, MTLComputePipelineState, MTLCopyAllDevices, MTLCreateSystemDefaultDevice, MTLDevice,
    MTLGPUFamily,
};
use std::time::Duration;

use bitnet_core::Buffer;

use self::archive::Archive;
use self::library::Library;
pub use self::memory::MetalMemory;
use crate::{Constant, DeviceInfo, Dispatch, Error, Gpu, Result};

// Without it the system names no default device to programs that draw nothing.
#[link(name = "CoreGraphics", kind = "framework")]
unsafe extern "C" {}

/// All devices, the default first.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>> {
    let default = default_device()?;
    let mut all = vec![info(&default)];
    let others = MTLCopyAllDevices().into_iter().filter(|device| device.registryID() != default.registryID());
    all.extend(others.map(|device| info(&device)));
    Ok(all)
}

fn default_device() -> Result<Retained<ProtocolObject<dyn MTLDevice>>> {
    MTLCreateSystemDefaultDevice()
        .ok_or_else(|| Error::NoDevice { reason: "the system names none".to_owned() })
}

fn info(device: &ProtocolObject<dyn MTLDevice>) -> DeviceInfo {
    DeviceInfo {
        name: device.name().to_string(),
        apple_family: apple_family(device),
        has_metal3: device.supportsFamily(MTLGPUFamily::Metal3),
        has_unified_memory: device.hasUnifiedMemory(),
        recommended_working_set_bytes: device.recommendedMaxWorkingSetSize(),
        max_buffer_bytes: device.maxBufferLength() as u64,
        max_threads_per_threadgroup: device.maxThreadsPerThreadgroup().width,
        max_threadgroup_memory_bytes: device.maxThreadgroupMemoryLength(),
    }
}

fn apple_family(device: &ProtocolObject<dyn MTLDevice>) -> Option<u8> {
    let families = [
        (10, MTLGPUFamily::Apple10),
        (9, MTLGPUFamily::Apple9),
        (8, MTLGPUFamily::Apple8),
        (7, MTLGPUFamily::Apple7),
        (6, MTLGPUFamily::Apple6),
        (5, MTLGPUFamily::Apple5),
    ];
    families.into_iter().find(|(_, family)| device.supportsFamily(*family)).map(|(number, _)| number)
}

/// The system's default device, with a queue and the compiled kernels.
#[derive(Debug)]
pub struct MetalGpu {
    info: DeviceInfo,
    device: Retained<ProtocolObject<dyn MTLDevice>>,
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    library: Library,
    archive: Archive,
}

/// A compiled kernel.
pub type MetalPipeline = Retained<ProtocolObject<dyn MTLComputePipelineState>>;

impl MetalGpu {
    /// Compiles the kernels for the system's default device.
    ///
    /// Errors: [`Error::NoDevice`], [`Error::Unsuitable`], [`Error::Compile`].
    pub fn open() -> Result<Self> {
        let device = default_device()?;
        let info = info(&device);
        if !info.is_suitable() {
            let reason = "the kernels need Metal 3 and unified memory: a Mac with Apple silicon".to_owned();
            return Err(Error::Unsuitable { device: info.name, reason });
        }
        let no_queue = || Error::OutOfMemory { what: "a command queue".to_owned() };
        let queue = device.newCommandQueue().ok_or_else(no_queue)?;
        let library = Library::compile(&device)?;
        let archive = Archive::open(&device, &info.name);
        Ok(Self { info, device, queue, library, archive })
    }
}

impl Gpu for MetalGpu {
    type Memory = MetalMemory;
    type Pipeline = MetalPipeline;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: usize) -> Result<MetalMemory> {
        MetalMemory::allocate(&self.device, bytes)
    }

    fn share(&self, bytes: &Buffer, align: usize) -> Result<MetalMemory> {
        MetalMemory::share(&self.device, bytes, align)
    }

    fn pipeline(&self, kernel: &str, constants: &[Constant], threads: usize) -> Result<MetalPipeline> {
        let function = self.library.function(kernel, constants)?;
        let pipeline = self.archive.pipeline(&self.device, kernel, &function, threads)?;
        match pipeline.threadExecutionWidth() {
            32 => Ok(pipeline),
            width => Err(Error::Unsuitable {
                device: self.info.name.clone(),
                reason: format!("simdgroups of {kernel} have {width} threads, not 32"),
            }),
        }
    }

    fn keep_pipelines(&self) {
        self.archive.save();
    }

    fn run(&self, dispatches: &[Dispatch<'_, Self>]) -> Result<Duration> {
        run::run(&self.queue, dispatches)
    }
}

#[cfg(test)]
mod tests;
