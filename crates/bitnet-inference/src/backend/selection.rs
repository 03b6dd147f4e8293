//! Which backends run a model on the device that was asked for.

use std::sync::Arc;

use bitnet_core::{Device, ThreadPool};

use super::Backend;
use super::cpu::{CpuBackend, CpuOptions};
use super::metal;
use crate::Result;
use crate::model::Model;

/// The backend of a model, and behind it those that take over when it fails.
///
/// `BITNET_DEVICE` names what `auto` is to be.
///
/// Errors: [`crate::Error::Metal`] where Metal was asked for and there is none; those of the backend.
pub fn backends(
    device: Device,
    options: CpuOptions,
    model: Model,
    pool: &Arc<ThreadPool>,
) -> Result<Vec<Arc<dyn Backend>>> {
    match asked(device)? {
        Device::Cpu => cpu(options, model, pool),
        Device::Metal => metal::system::backends(options, &model, pool),
        // Whatever is wrong with a GPU, there is the CPU.
        Device::Auto => match metal::system::checked_backends(options, &model, pool) {
            Ok(backends) => Ok(backends),
            Err(_) => cpu(options, model, pool),
        },
    }
}

/// The device that is asked for: where that is any, the environment may name one.
fn asked(device: Device) -> Result<Device> {
    let named = std::env::var("BITNET_DEVICE").unwrap_or_default();
    if device != Device::Auto || named.is_empty() {
        return Ok(device);
    }
    Ok(named.parse().map_err(|_| bitnet_core::Error::UnknownDevice(format!("BITNET_DEVICE={named}")))?)
}

fn cpu(options: CpuOptions, model: Model, pool: &Arc<ThreadPool>) -> Result<Vec<Arc<dyn Backend>>> {
    Ok(vec![Arc::new(CpuBackend::new(model, Arc::clone(pool), &options)?)])
}
