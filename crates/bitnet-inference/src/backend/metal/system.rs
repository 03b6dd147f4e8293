//! The Metal device of this machine, for those who ask for a device by its name.

use std::sync::Arc;

use bitnet_core::ThreadPool;

use crate::Result;
use crate::backend::Backend;
use crate::backend::cpu::CpuOptions;
use crate::model::Model;

/// The model on the system's device, and the CPU behind it.
///
/// Errors: [`crate::Error::Metal`] where there is none; those of [`super::MetalBackend::new`].
pub(crate) fn backends(
    options: CpuOptions,
    model: &Model,
    pool: &Arc<ThreadPool>,
) -> Result<Vec<Arc<dyn Backend>>> {
    #[cfg(target_os = "macos")]
    return macos::with_fallback(macos::gpu()?, options, model, pool);
    #[cfg(not(target_os = "macos"))]
    {
        let _ = (options, model, pool);
        bitnet_metal::devices()?;
        unreachable!("there is no Metal off macOS")
    }
}

/// [`backends`], on a device whose kernels are right on the embedded model.
///
/// Errors: those of [`backends`]; [`crate::Error::Backend`] where they are wrong.
pub(crate) fn checked_backends(
    options: CpuOptions,
    model: &Model,
    pool: &Arc<ThreadPool>,
) -> Result<Vec<Arc<dyn Backend>>> {
    #[cfg(target_os = "macos")]
    macos::check(pool)?;
    backends(options, model, pool)
}

/// What [`super::self_test`] says of the system's device.
///
/// Errors: [`crate::Error::Metal`] where there is none.
pub fn self_test(pool: &Arc<ThreadPool>) -> Result<super::SelfTest> {
    #[cfg(target_os = "macos")]
    return super::self_test::self_test(&macos::gpu()?, pool);
    #[cfg(not(target_os = "macos"))]
    {
        let _ = pool;
        bitnet_metal::devices()?;
        unreachable!("there is no Metal off macOS")
    }
}

#[cfg(target_os = "macos")]
mod macos {
    use std::sync::OnceLock;

    use bitnet_metal::MetalGpu;

    use super::{Arc, Backend, CpuOptions, Model, Result, ThreadPool};
    use crate::Error;
    use crate::backend::OnDemandBackend;
    use crate::backend::metal::{MetalBackend, NAME, self_test};

    /// The device, opened once: its kernels are compiled for all models.
    pub(super) fn gpu() -> Result<Arc<MetalGpu>> {
        static GPU: OnceLock<bitnet_metal::Result<Arc<MetalGpu>>> = OnceLock::new();
        Ok(GPU.get_or_init(|| MetalGpu::open().map(Arc::new)).clone()?)
    }

    /// Whether its kernels are right, found out once.
    pub(super) fn check(pool: &Arc<ThreadPool>) -> Result<()> {
        static IS_RIGHT: OnceLock<bool> = OnceLock::new();
        let gpu = gpu()?;
        let is_right = || self_test::self_test(&gpu, pool).is_ok_and(|test| test.is_right());
        if *IS_RIGHT.get_or_init(is_right) {
            return Ok(());
        }
        let reason = "its results are not those of the CPU: see `bitnet doctor`".to_owned();
        Err(Error::Backend { name: NAME.to_owned(), reason })
    }

    /// A model on the device, and the CPU behind it, which is prepared when it is needed.
    pub(super) fn with_fallback(
        gpu: Arc<MetalGpu>,
        options: CpuOptions,
        model: &Model,
        pool: &Arc<ThreadPool>,
    ) -> Result<Vec<Arc<dyn Backend>>> {
        let backend = MetalBackend::new(gpu, model.clone(), pool, options.kv_cache)?;
        // A device that has no room for a token has none for the model.
        backend.start(1)?;
        let cpu = OnDemandBackend::cpu(model.clone(), Arc::clone(pool), options);
        Ok(vec![Arc::new(backend), Arc::new(cpu)])
    }
}
