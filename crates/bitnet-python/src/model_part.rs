//! The layers of a model on several sets of threads.

use std::sync::Arc;

use bitnet_core::{Isa, ThreadPool};
use bitnet_inference::backend::Backend;
use bitnet_inference::backend::cpu::{CpuBackend, CpuOptions};
use bitnet_inference::backend::hybrid::{HybridBackend, Part};
use bitnet_inference::model::Model;
use bitnet_inference::{Error, Result};
use bitnet_quant::Packing;
use pyo3::prelude::*;

use crate::error::Failure;
use crate::model::count;

/// Neighbouring layers of a model and what runs them, for parts of load().
///
/// layers is their number; one of the parts may leave it out and takes what the others leave. threads and packing are by
/// default those of load(), isa, as `bitnet doctor` names it, the best one of this CPU. Raises OptionError, DeviceError.
#[pyclass(frozen, from_py_object, module = "bitnet_rust")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModelPart {
    layers: Option<usize>,
    threads: Option<usize>,
    isa: Option<Isa>,
    packing: Option<Packing>,
}

#[pymethods]
impl ModelPart {
    #[new]
    #[pyo3(signature = (layers = None, *, threads = None, isa = None, packing = None))]
    fn new(
        layers: Option<i64>,
        threads: Option<i64>,
        isa: Option<&str>,
        packing: Option<&str>,
    ) -> Result<Self, Failure> {
        let part = Self {
            layers: layers.map(|layers| count("layers", layers)).transpose()?,
            threads: threads.map(|threads| count("threads", threads)).transpose()?,
            isa: isa.map(str::parse).transpose()?,
            packing: packing.map(str::parse).transpose()?,
        };
        CpuOptions { isa: part.isa, packing: part.packing, ..CpuOptions::default() }.check()?;
        Ok(part)
    }

    fn __repr__(&self) -> String {
        let Self { layers, threads, isa, packing } = *self;
        let number = |number: Option<usize>| number.map_or("None".to_owned(), |number| number.to_string());
        let text = |text: Option<String>| text.map_or("None".to_owned(), |text| format!("{text:?}"));
        format!(
            "ModelPart({}, threads={}, isa={}, packing={})",
            number(layers),
            number(threads),
            text(isa.map(|isa| isa.to_string())),
            text(packing.map(|packing| packing.to_string())),
        )
    }
}

/// A backend of `model` that runs `parts` one after another; what they leave open is as `cpu` and `threads` say.
///
/// Errors: [`Error::InvalidOption`] for parts that have not all layers of the model; those of the CPU.
pub(crate) fn split(
    model: Model,
    parts: &[ModelPart],
    threads: Option<usize>,
    cpu: CpuOptions,
) -> Result<Arc<dyn Backend>> {
    let cuts = cuts(parts, model.config.layers)?;
    let prepared = model.split(&cuts).into_iter().zip(parts).map(|(piece, part)| {
        let threads = part.threads.or(threads).unwrap_or_else(ThreadPool::default_threads);
        let packing = part.packing.or(cpu.packing);
        let cpu = CpuOptions { isa: part.isa.or(cpu.isa), packing, ..cpu };
        let layers = piece.layers.clone();
        let backend = CpuBackend::new(piece, Arc::new(ThreadPool::new(threads)?), &cpu)?;
        Ok(Part { layers, backend: Arc::new(backend) })
    });
    Ok(Arc::new(HybridBackend::new(prepared.collect::<Result<_>>()?)?))
}

/// In front of which of `layers` the parts behind the first begin.
fn cuts(parts: &[ModelPart], layers: usize) -> Result<Vec<usize>> {
    let invalid = || {
        let counts =
            parts.iter().map(|part| part.layers.map_or("None".to_owned(), |layers| layers.to_string()));
        let got = format!("[{}] of {layers}", counts.collect::<Vec<_>>().join(", "));
        Error::InvalidOption { name: "parts", expected: "all layers of the model, one or more in each", got }
    };
    let named: usize = parts.iter().filter_map(|part| part.layers).fold(0, usize::saturating_add);
    let open = parts.iter().filter(|part| part.layers.is_none()).count();
    let rest = layers.checked_sub(named).ok_or_else(invalid)?;
    let has_all = if open == 1 { rest > 0 } else { open == 0 && rest == 0 };
    if !has_all || parts.iter().any(|part| part.layers == Some(0)) {
        return Err(invalid());
    }
    let mut end = 0;
    let ends = parts.iter().map(|part| {
        end += part.layers.unwrap_or(rest);
        end
    });
    Ok(ends.take(parts.len() - 1).collect())
}
