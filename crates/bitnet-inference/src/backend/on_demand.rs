//! A backend that is prepared when it is first needed.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bitnet_core::ThreadPool;

use super::cpu::{CpuBackend, CpuOptions};
use super::{Backend, KvType, Limits, Session};
use crate::config::ModelConfig;
use crate::model::Model;
use crate::{Error, Result};

type Prepare = dyn FnOnce() -> Result<Arc<dyn Backend>> + Send;

/// What another backend falls back to, or what stands in where an engine has a backend of its own. Until its first session
/// it takes no memory but that of what it is made of.
pub struct OnDemandBackend {
    name: &'static str,
    kv_type: KvType,
    config: ModelConfig,
    prepare: Mutex<Option<Box<Prepare>>>,
    prepared: OnceLock<Arc<dyn Backend>>,
}

impl OnDemandBackend {
    /// The backend `name` of the model of `config`, which `prepare` makes.
    pub fn new(
        name: &'static str,
        kv_type: KvType,
        config: ModelConfig,
        prepare: impl FnOnce() -> Result<Arc<dyn Backend>> + Send + 'static,
    ) -> Self {
        let prepare: Box<Prepare> = Box::new(prepare);
        Self { name, kv_type, config, prepare: Mutex::new(Some(prepare)), prepared: OnceLock::new() }
    }

    /// A model on the CPU. Until its first session packed weights stay where they are mapped.
    pub fn cpu(model: Model, pool: Arc<ThreadPool>, options: CpuOptions) -> Self {
        let config = model.config.clone();
        let prepare = move || Ok(Arc::new(CpuBackend::new(model, pool, &options)?) as Arc<dyn Backend>);
        Self::new("cpu", options.kv_cache, config, prepare)
    }

    fn prepared(&self) -> Result<&dyn Backend> {
        // Held while it is prepared, so that others wait for it.
        let mut prepare = self.prepare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepare) = prepare.take() {
            let backend = prepare()?;
            return Ok(&**self.prepared.get_or_init(|| backend));
        }
        let failed =
            || Error::Backend { name: self.name.to_owned(), reason: "it could not be prepared".to_owned() };
        self.prepared.get().map(|backend| &**backend).ok_or_else(failed)
    }
}

impl fmt::Debug for OnDemandBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, prepared, .. } = self;
        f.debug_struct("OnDemandBackend")
            .field("name", name)
            .field("prepared", prepared)
            .finish_non_exhaustive()
    }
}

impl Backend for OnDemandBackend {
    fn name(&self) -> &str {
        self.name
    }

    fn description(&self) -> String {
        self.prepared.get().map_or_else(|| "when it is needed".to_owned(), |backend| backend.description())
    }

    fn weight_bytes(&self) -> usize {
        self.prepared.get().map_or(0, |backend| backend.weight_bytes())
    }

    fn kv_type(&self) -> KvType {
        self.kv_type
    }

    fn page_bytes(&self, kv_type: KvType) -> usize {
        kv_type.page_bytes(&self.config)
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        self.prepared()?.open(limits, kv_type)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{GenerateOptions, LoadOptions, LoadedModel};

    #[test]
    fn it_is_prepared_once_and_not_before_its_first_session() {
        let model = LoadedModel::embedded(&LoadOptions::default()).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let (counter, cpu) = (Arc::clone(&calls), model.shared_backend());
        let backend = OnDemandBackend::new("cpu", KvType::F32, model.config().clone(), move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(cpu)
        });
        for kv_type in KvType::ALL {
            assert_eq!(backend.page_bytes(kv_type), model.backend().page_bytes(kv_type));
        }
        assert_eq!((calls.load(Ordering::Relaxed), backend.weight_bytes()), (0, 0));
        for _ in 0..2 {
            backend.start(8).unwrap().feed(&[1, 2], 1).unwrap();
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(backend.weight_bytes(), model.backend().weight_bytes());
    }

    #[test]
    fn a_model_that_is_loaded_on_demand_has_no_weights_before_it_runs() {
        let options = LoadOptions::default();
        let [model, prepared] =
            [LoadedModel::load_on_demand, LoadedModel::load].map(|load| load(None, &options).unwrap());
        assert_eq!(model.backend().weight_bytes(), 0);
        let text =
            |model: &Arc<LoadedModel>| model.generate("It is", &GenerateOptions::default()).unwrap().text;
        assert_eq!(text(&model), text(&prepared));
        assert_eq!(model.backend().weight_bytes(), prepared.backend().weight_bytes());
    }

    #[test]
    fn a_preparation_that_fails_is_an_error_each_time() {
        let model = LoadedModel::embedded(&LoadOptions::default()).unwrap();
        let backend = OnDemandBackend::new("cpu", KvType::F32, model.config().clone(), || {
            Err(Error::OutOfMemory { tokens: 1 })
        });
        assert!(matches!(backend.start(8), Err(Error::OutOfMemory { .. })));
        assert!(matches!(backend.start(8), Err(Error::Backend { .. })));
    }
}
