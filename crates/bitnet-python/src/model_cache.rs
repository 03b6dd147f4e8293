//! Several models by name.

use std::path::PathBuf;

use bitnet_core::ByteSize;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::byte_size::byte_size;
use crate::convert::to_python;
use crate::error::Failure;
use crate::model::{Model, load_options, model_name};

/// Models that stay in memory between their uses, within a budget of bytes; threads may share it.
///
/// budget is a number of bytes or a text like "4GiB". The least recently used model gives way when another is loaded; one
/// that is in use, of which there is a Model, never does. Threads that ask for the same model wait for one load of it.
/// The size of a model is that of its weights as they are kept to run it, not the weight_bytes of summary(); texts and
/// the tokenizer come on top. It is known once the model is loaded, so memory holds that model beside those that then give
/// way. As a context manager it is cleared at the end. Raises OptionError.
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct ModelCache {
    models: bitnet_inference::ModelCache,
}

#[pymethods]
impl ModelCache {
    #[new]
    fn new(budget: &Bound<'_, PyAny>) -> Result<Self, Failure> {
        Ok(Self { models: bitnet_inference::ModelCache::new(byte_size("budget", budget)?) })
    }

    /// The model that load() gives for the same arguments, loaded unless it is there.
    ///
    /// Raises what load() raises, and OutOfMemoryError for a model that does not fit beside those in use.
    #[pyo3(signature = (path_or_id = None, *, device = "auto", threads = None, kv_cache = "f32", packing = None,
                        gguf = "", activations = None, adapter = None))]
    #[expect(clippy::too_many_arguments, reason = "the options of the Python call")]
    fn get(
        &self,
        py: Python<'_>,
        path_or_id: Option<PathBuf>,
        device: &str,
        threads: Option<i64>,
        kv_cache: &str,
        packing: Option<&str>,
        gguf: &str,
        activations: Option<&str>,
        adapter: Option<PathBuf>,
    ) -> Result<Model, Failure> {
        let options = load_options(device, threads, kv_cache, packing, gguf, activations, adapter)?;
        let name = path_or_id.map(model_name).transpose()?;
        Ok(Model::new(py.detach(|| self.models.get(name.as_deref(), &options))?))
    }

    /// Figures as of now: "hits", "misses", "evictions", "models", "resident_bytes" and "budget_bytes".
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.models.stats())
    }

    /// Give up every model that is not in use.
    fn clear(&self, py: Python<'_>) {
        py.detach(|| self.models.clear());
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.clear(py);
    }

    fn __repr__(&self) -> String {
        let stats = self.models.stats();
        let (models, bytes, budget) =
            (stats.models, ByteSize(stats.resident_bytes), ByteSize(stats.budget_bytes));
        format!("ModelCache({models} model{}, {bytes} of {budget})", if models == 1 { "" } else { "s" })
    }
}
