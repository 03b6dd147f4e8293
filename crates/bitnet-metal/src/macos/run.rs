//! One command buffer for a step.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;

use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSError;
use objc2_metal::{
    MTLBarrierScope, MTLCommandBuffer, MTLCommandBufferError, MTLCommandBufferErrorDomain,
    MTLCommandBufferStatus, MTLCommandEncoder, MTLCommandQueue, MTLComputeCommandEncoder, MTLDispatchType,
    MTLSize,
};

use super::MetalGpu;
use crate::{Dispatch, Error, Result};

/// Encodes the dispatches, commits them, and waits for the last of them.
pub(super) fn run(
    queue: &ProtocolObject<dyn MTLCommandQueue>,
    dispatches: &[Dispatch<'_, MetalGpu>],
) -> Result<Duration> {
    // Without a pool of its own, what Metal autoreleases would live as long as the thread.
    autoreleasepool(|_| {
        let out_of_memory = || Error::OutOfMemory { what: "a command buffer".to_owned() };
        // The dispatches hold all memory until the end: it need not be retained once more.
        let commands = queue.commandBufferWithUnretainedReferences().ok_or_else(out_of_memory)?;
        let encoder = commands.computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent);
        let encoder = encoder.ok_or_else(out_of_memory)?;
        for dispatch in dispatches {
            encode(&encoder, dispatch);
        }
        encoder.endEncoding();
        commands.commit();
        commands.waitUntilCompleted();
        if commands.status() == MTLCommandBufferStatus::Completed {
            return Ok(Duration::try_from_secs_f64(commands.GPUEndTime() - commands.GPUStartTime())
                .unwrap_or_default());
        }
        Err(failure(commands.error()))
    })
}

fn encode(encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, dispatch: &Dispatch<'_, MetalGpu>) {
    if dispatch.waits {
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    }
    encoder.setComputePipelineState(dispatch.pipeline);
    for (index, binding) in dispatch.buffers.iter().enumerate() {
        let buffer = binding.map(|binding| binding.memory.buffer());
        let offset = binding.map_or(0, |binding| binding.memory.start() + binding.offset);
        // SAFETY: the kernel takes a buffer of this index, and stays inside of it: see `kernels`.
        unsafe { encoder.setBuffer_offset_atIndex(buffer, offset, index) };
    }
    let words = dispatch.params.words();
    let index = dispatch.buffers.params_index();
    // SAFETY: the bytes are copied before the call returns.
    unsafe {
        encoder.setBytes_length_atIndex(NonNull::from(words).cast::<c_void>(), size_of_val(words), index);
        if dispatch.threadgroup_bytes > 0 {
            // Whole steps of 16 bytes, as Metal asks.
            let bytes = dispatch.threadgroup_bytes.next_multiple_of(16);
            encoder.setThreadgroupMemoryLength_atIndex(bytes, 0);
        }
    }
    let [width, height, depth] = dispatch.threadgroups;
    encoder.dispatchThreadgroups_threadsPerThreadgroup(
        MTLSize { width, height, depth },
        MTLSize { width: dispatch.threads, height: 1, depth: 1 },
    );
}

/// Why a command buffer did not end well.
fn failure(error: Option<Retained<NSError>>) -> Error {
    let Some(error) = error else {
        return Error::Failed { reason: "a command buffer ended without a result".to_owned() };
    };
    let reason = error.localizedDescription().to_string();
    // SAFETY: a constant of the framework.
    if *error.domain() != *unsafe { MTLCommandBufferErrorDomain } {
        return Error::Failed { reason };
    }
    match MTLCommandBufferError(error.code().unsigned_abs()) {
        MTLCommandBufferError::OutOfMemory => Error::OutOfMemory { what: format!("a step: {reason}") },
        MTLCommandBufferError::DeviceRemoved
        | MTLCommandBufferError::AccessRevoked
        | MTLCommandBufferError::NotPermitted => Error::DeviceLost { reason },
        _ => Error::Failed { reason },
    }
}
