//! What quantization does to a model.

use std::path::PathBuf;
use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::report::{EndToEnd, Layer, LinearInput, Report, ReportOptions};
use bitnet_inference::{Checkpoint, GgufOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::calibrate::{ErrorMetrics, Statistics, errors_by_name};
use crate::error::{Failure, exception};
use crate::model::{check_signals, count};

/// What quantization does to a model, layer by layer and end to end. Made by report().
#[pyclass(frozen, module = "bitnet_rust.quant")]
pub(crate) struct QuantizationReport {
    inner: Report,
}

/// One linear of a report: the errors of its outputs on sampled tokens.
#[pyclass(frozen, module = "bitnet_rust.quant")]
pub(crate) struct LayerReport {
    layer: Layer,
    input: LinearInput,
}

/// Measure what quantization does to model, a float checkpoint; or what it did to model, a quantized form of the floats
/// of reference. Both are named as for load().
///
/// Both forms read text, some everyday English by default, up to tokens tokens of it. Each linear is measured at every one
/// of precisions, by default absmean, int4 and int8, on what it multiplies in the float model; the first one ranks them.
/// Recommended are the fewest bits whose outputs have min_sqnr_db. Raises CheckpointError for packed weights without a
/// reference and for models of different shapes, PromptError for no text, OptionError, and what load() raises.
#[pyfunction]
#[pyo3(signature = (model, reference = None, *, text = None, tokens = 1024, precisions = None, min_sqnr_db = 10.0,
                    threads = None))]
#[expect(clippy::too_many_arguments, reason = "the options of the Python call")]
pub(crate) fn report(
    py: Python<'_>,
    model: PathBuf,
    reference: Option<PathBuf>,
    text: Option<&str>,
    tokens: i64,
    precisions: Option<Vec<String>>,
    min_sqnr_db: f64,
    threads: Option<i64>,
) -> Result<QuantizationReport, Failure> {
    let threads = threads.map(|threads| count("threads", threads)).transpose()?;
    let mut options =
        ReportOptions { tokens: count("tokens", tokens)?, min_sqnr_db, ..ReportOptions::default() };
    if let Some(names) = precisions {
        options.precisions =
            names.iter().map(|name| name.parse()).collect::<Result<_, bitnet_quant::Error>>()?;
    }
    let inner = py.detach(|| {
        let pool = Arc::new(ThreadPool::new(threads.unwrap_or_else(ThreadPool::default_threads))?);
        let model = find(model)?;
        let reference = reference.map(find).transpose()?;
        bitnet_inference::report::report(&model, reference.as_ref(), text, &options, &pool, |_, _| {
            check_signals().map_err(Failure::from)
        })
    })?;
    Ok(QuantizationReport { inner })
}

fn find(path: PathBuf) -> Result<Checkpoint, Failure> {
    let name = path
        .into_os_string()
        .into_string()
        .map_err(|path| exception("ModelNotFoundError", &format!("{}: is not UTF-8", path.display())))?;
    Ok(Checkpoint::find(Some(&name), &GgufOptions::default())?)
}

#[pymethods]
impl QuantizationReport {
    /// Where the quantized model comes from.
    #[getter]
    fn model(&self) -> &str {
        &self.inner.model
    }

    /// What its ternary linears are, and what they multiply.
    #[getter]
    fn quantized(&self) -> &str {
        &self.inner.quantized
    }

    /// Where the float model comes from.
    #[getter]
    fn reference(&self) -> &str {
        &self.inner.reference
    }

    /// Tokens that were read.
    #[getter]
    fn tokens(&self) -> usize {
        self.inner.tokens
    }

    /// Those among them on which linears were measured.
    #[getter]
    fn sampled_tokens(&self) -> usize {
        self.inner.sampled_tokens
    }

    /// What the outputs of a linear were to reach, dB.
    #[getter]
    fn min_sqnr_db(&self) -> f64 {
        self.inner.min_sqnr_db
    }

    /// Mean bits of a weight at the precisions recommended; floats with those they are stored in.
    #[getter]
    fn recommended_bits(&self) -> f64 {
        self.inner.recommended_bits
    }

    /// Perplexity of the float model.
    #[getter]
    fn reference_perplexity(&self) -> f64 {
        self.inner.end_to_end.reference_perplexity
    }

    /// Perplexity of the quantized model.
    #[getter]
    fn quantized_perplexity(&self) -> f64 {
        self.inner.end_to_end.quantized_perplexity
    }

    /// Mean over the tokens of KL(p || q) = sum p ln(p / q), nats: p of the float model, q of the quantized one.
    #[getter]
    fn kl_mean(&self) -> f64 {
        self.inner.end_to_end.kl_mean
    }

    /// The largest of these.
    #[getter]
    fn kl_max(&self) -> f64 {
        self.inner.end_to_end.kl_max
    }

    /// Share of tokens behind which both hold the same token for the most probable.
    #[getter]
    fn top1_agreement(&self) -> f64 {
        self.inner.end_to_end.top1_agreement
    }

    /// Every linear that is ternary in the quantized model, the most sensitive first.
    #[getter]
    fn layers(&self) -> Vec<LayerReport> {
        let layer = |layer: &Layer| LayerReport {
            layer: layer.clone(),
            input: self.inner.inputs[layer.input].clone(),
        };
        self.inner.layers.iter().map(layer).collect()
    }

    /// Write the report to a new file: an HTML page for a name that ends in .html, the plot for .png.
    ///
    /// Raises OptionError for another name, FileError for a file that is there already or cannot be written.
    fn save(&self, py: Python<'_>, path: PathBuf) -> Result<(), Failure> {
        Ok(py.detach(move || bitnet_cli::save_report(&self.inner, &path))?)
    }

    fn __repr__(&self) -> String {
        let EndToEnd { reference_perplexity, quantized_perplexity, kl_mean, .. } = self.inner.end_to_end;
        format!(
            "QuantizationReport({:?}, perplexity {reference_perplexity:.4} -> {quantized_perplexity:.4}, \
             KL {kl_mean:.4}, {} layers)",
            self.inner.model,
            self.inner.layers.len()
        )
    }
}

#[pymethods]
impl LayerReport {
    /// Hugging Face name.
    #[getter]
    fn name(&self) -> &str {
        &self.layer.name
    }

    /// Outputs and inputs.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.layer.rows, self.layer.cols)
    }

    /// The precision of fewest bits that has the signal to noise asked for, or "float".
    #[getter]
    fn recommended(&self) -> String {
        self.layer.recommended.to_string()
    }

    /// The error at every precision, by name.
    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        errors_by_name(py, &self.layer.errors)
    }

    /// The error with the weights of the quantized model, where that was measured against a reference.
    #[getter]
    fn quantized(&self) -> Option<ErrorMetrics> {
        self.layer.quantized.map(ErrorMetrics::new)
    }

    /// What it multiplies, of all tokens.
    #[getter]
    fn input(&self) -> Statistics {
        Statistics::with(self.input.statistics.clone())
    }

    /// What rounding that to int8 leaves, with a scale for each token.
    #[getter]
    fn input_int8(&self) -> ErrorMetrics {
        ErrorMetrics::new(self.input.int8)
    }

    fn __repr__(&self) -> String {
        let (name, sqnr, recommended) = (&self.layer.name, self.layer.sqnr_db(), self.layer.recommended);
        format!("LayerReport({name:?}, {sqnr:.2} dB, recommended {:?})", recommended.to_string())
    }
}
