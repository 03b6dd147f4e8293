//! A Metal device, or what stands in for it: the forward pass as one list of dispatches for each batch.
//!
//! Integer products are exact, and floats are added in the order of the CPU backend; attention takes a
//! token's pages one by one and puts them together in their order. So a token has the same bits whatever
//! shares its batch.

mod batch;
mod cache;
mod error;
mod forward;
mod outputs;
mod page_layout;
mod prepared;
mod self_test;
mod session;
pub(crate) mod system;

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_metal::Gpu;

use self::error::failed;
use self::prepared::Prepared;
pub use self::self_test::SelfTest;
use self::session::MetalSession;
pub use self::system::self_test as system_self_test;
use super::{Backend, KvType, Limits, Session};
use crate::Result;
use crate::model::ModelPart;

/// The name of the device, as in `--device`.
const NAME: &str = "metal";

/// Runs a model on a device that Metal can use.
#[derive(Debug)]
pub struct MetalBackend<G: Gpu> {
    gpu: Arc<G>,
    model: Arc<Prepared<G>>,
    kv_type: KvType,
}

impl<G: Gpu> MetalBackend<G> {
    /// Puts a model on a device: ternary matrices are repacked, stored floats stay where they are mapped.
    ///
    /// Errors: [`crate::Error::Unsupported`] for what the kernels do not compute: parts of models, adapters,
    /// floats in front of ternary weights, scales of groups of columns, norms of single projections, int8
    /// keys and values; [`crate::Error::OutOfMemory`], [`crate::Error::Metal`].
    pub fn new(gpu: Arc<G>, model: impl Into<ModelPart>, pool: &ThreadPool, kv_type: KvType) -> Result<Self> {
        cache::element(kv_type)?;
        let model = Arc::new(Prepared::new(&*gpu, model.into(), pool)?);
        gpu.keep_pipelines();
        Ok(Self { gpu, model, kv_type })
    }
}

/// Runs the embedded model on a device and on the CPU, and compares.
///
/// Errors: those of [`MetalBackend::new`] and of its sessions.
pub fn self_test<G: Gpu>(gpu: &Arc<G>, pool: &Arc<ThreadPool>) -> Result<SelfTest> {
    self_test::self_test(gpu, pool)
}

impl<G: Gpu> Backend for MetalBackend<G> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> String {
        self.gpu.info().name.clone()
    }

    fn weight_bytes(&self) -> usize {
        self.model.weight_bytes()
    }

    fn kv_type(&self) -> KvType {
        self.kv_type
    }

    fn page_bytes(&self, kv_type: KvType) -> usize {
        kv_type.page_bytes(&self.model.config)
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        let session = MetalSession::new(Arc::clone(&self.gpu), Arc::clone(&self.model), limits, kv_type);
        Ok(Box::new(session.map_err(|error| failed(error, limits.positions))?))
    }
}
