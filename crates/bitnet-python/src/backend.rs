//! A Python object as a backend: `bitnet_rust.Backend`.

use std::ops::Range;
use std::sync::Arc;

use bitnet_inference::backend::{Backend, Candidate, Choice, KvType, Limits, Page, Session, Traffic, Work};
use bitnet_inference::{Error, LoadedModel, Result};
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::prelude::*;

/// A backend of `model` that `object` is.
///
/// Errors: `TypeError` where it has no name, no `weight_bytes` or no method `open`.
pub(crate) fn python_backend(
    object: &Bound<'_, PyAny>,
    model: &Arc<LoadedModel>,
) -> PyResult<Arc<dyn Backend>> {
    let attributes = (object.getattr("name").and_then(|name| name.extract::<String>()))
        .and_then(|name| Ok((name, object.getattr("weight_bytes")?.extract::<usize>()?)));
    let has_open = object.getattr("open").is_ok_and(|open| open.is_callable());
    match attributes {
        Ok((name, weight_bytes)) if has_open => Ok(Arc::new(PythonBackend {
            object: object.clone().unbind(),
            name,
            weight_bytes,
            model: Arc::clone(model),
        })),
        _ => Err(PyTypeError::new_err(
            "backend must have a text name, a number weight_bytes and a method open; see bitnet_rust.Backend",
        )),
    }
}

/// Tokens to append to one sequence: an entry of a batch that a Backend is given.
#[pyclass(frozen, name = "Work", module = "bitnet_rust")]
pub(crate) struct PyWork {
    /// The tokens: uint32, at least one.
    #[pyo3(get)]
    ids: Py<PyArray1<u32>>,
    /// Position of the first of them: how many tokens the sequence holds.
    #[pyo3(get)]
    position: usize,
    /// Pages of the sequence in the order of its positions, 64 in each, those of ids among them: uint32.
    #[pyo3(get)]
    pages: Py<PyArray1<u32>>,
    /// The last tokens among ids whose logits are asked for.
    #[pyo3(get)]
    outputs: usize,
}

impl PyWork {
    fn new(py: Python<'_>, work: &Work<'_>) -> Self {
        Self {
            ids: PyArray1::from_slice(py, work.ids).unbind(),
            position: work.position,
            pages: PyArray1::from_iter(py, work.pages.iter().map(|page| page.0)).unbind(),
            outputs: outputs(work),
        }
    }
}

fn outputs(work: &Work<'_>) -> usize {
    work.outputs.min(work.ids.len())
}

#[derive(Debug)]
struct PythonBackend {
    object: Py<PyAny>,
    name: String,
    weight_bytes: usize,
    model: Arc<LoadedModel>,
}

impl Backend for PythonBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        Python::attach(|py| match self.object.bind(py).get_type().fully_qualified_name() {
            Ok(name) => format!("the Python object {name}"),
            Err(_) => "a Python object".to_owned(),
        })
    }

    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    fn kv_type(&self) -> KvType {
        self.model.backend().kv_type()
    }

    /// What the backend of the model takes.
    fn page_bytes(&self, kv_type: KvType) -> usize {
        self.model.backend().page_bytes(kv_type)
    }

    fn open(&self, limits: Limits, kv_type: KvType) -> Result<Box<dyn Session>> {
        let Limits { pages, positions, tokens } = limits;
        let object = Python::attach(|py| {
            let opened = self.object.call_method1(py, "open", (pages, positions, tokens, kv_type.name()));
            opened.map_err(|error| failure(py, &self.name, &error, positions))
        })?;
        Ok(Box::new(PythonSession {
            object,
            name: self.name.clone(),
            vocab_size: self.model.config().vocab_size,
            logits: Vec::new(),
            candidates: Vec::new(),
            failure: None,
        }))
    }
}

#[derive(Debug)]
struct PythonSession {
    object: Py<PyAny>,
    /// Of the backend, for errors.
    name: String,
    vocab_size: usize,
    /// Of the last batch, `[outputs, vocab_size]`.
    logits: Vec<f32>,
    /// Of the last choices; none where a logit is not finite.
    candidates: Vec<Vec<Candidate>>,
    /// Of a page that was not copied; the next batch says so.
    failure: Option<Error>,
}

impl PythonSession {
    fn row(&self, output: usize) -> &[f32] {
        &self.logits[output * self.vocab_size..(output + 1) * self.vocab_size]
    }

    /// Runs a batch, and takes its logits.
    fn run(&mut self, py: Python<'_>, batch: &[Work<'_>]) -> PyResult<()> {
        let works = batch.iter().map(|work| PyWork::new(py, work)).collect::<Vec<_>>();
        let returned = self.object.bind(py).call_method1("execute", (works,))?;
        let shape = [batch.iter().map(outputs).sum(), self.vocab_size];
        let array = returned.cast::<PyArrayDyn<f32>>().ok().map(PyArrayMethods::readonly);
        let array = array.as_ref().map(PyReadonlyArrayDyn::as_array);
        let Some(array) = array.filter(|array| *array.shape() == shape) else {
            let (shape, got) = (format!("{shape:?}"), described(&returned));
            return Err(PyTypeError::new_err(format!("execute must return float32 {shape}, not {got}")));
        };
        self.logits.clear();
        self.logits.extend(array.iter());
        Ok(())
    }
}

/// "float64 [2, 2048]", or the type of what is no array.
fn described(object: &Bound<'_, PyAny>) -> String {
    let array = (object.getattr("dtype").ok())
        .zip(object.getattr("shape").and_then(|shape| shape.extract::<Vec<usize>>()).ok());
    array.map_or_else(|| object.get_type().to_string(), |(dtype, shape)| format!("{dtype} {shape:?}"))
}

impl Session for PythonSession {
    fn execute(&mut self, batch: &[Work<'_>]) -> Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let vocab_size = self.vocab_size;
        if let Some(&id) = batch.iter().flat_map(|work| work.ids).find(|id| **id as usize >= vocab_size) {
            return Err(Error::TokenOutOfRange { id, vocab_size });
        }
        let tokens = batch.iter().map(|work| work.ids.len()).sum();
        Python::attach(|py| {
            let ran = self.run(py, batch);
            ran.map_err(|error| failure(py, &self.name, &error, tokens))
        })
    }

    fn hidden(&mut self, _outputs: Range<usize>) -> Result<&[f32]> {
        Err(Error::Unsupported { what: "give hidden states" })
    }

    fn logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        Ok(&self.logits[outputs.start * self.vocab_size..outputs.end * self.vocab_size])
    }

    fn choose(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.resize_with(choices.len(), Vec::new);
        for (choice, kept) in choices.iter().zip(&mut candidates) {
            if choice.cut.keep(self.row(choice.output), kept).is_err() {
                kept.clear();
            }
        }
        self.candidates = candidates;
        Ok(())
    }

    fn candidates(&self, choice: usize) -> Result<&[Candidate]> {
        match &self.candidates[choice][..] {
            [] => Err(Error::NotFinite { what: "a logit".to_owned() }),
            candidates => Ok(candidates),
        }
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        Python::attach(|py| {
            if let Err(error) = self.object.call_method1(py, "copy_page", (from.0, to.0)) {
                self.failure = Some(failure(py, &self.name, &error, 0));
            }
        });
    }

    /// Python objects count nothing.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

/// An exception as the error of the backend: what was raised, and where. `MemoryError` is one of `tokens`.
fn failure(py: Python<'_>, name: &str, error: &PyErr, tokens: usize) -> Error {
    if error.is_instance_of::<PyMemoryError>(py) {
        return Error::OutOfMemory { tokens };
    }
    let kind = error.get_type(py).name().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    let message = error.value(py).to_string().replace('\n', " ");
    let place = raised_at(py, error).map_or_else(String::new, |place| format!(" ({place})"));
    Error::Backend { name: name.to_owned(), reason: format!("{kind}: {message}{place}") }
}

/// File and line of the last frame of a traceback.
fn raised_at(py: Python<'_>, error: &PyErr) -> Option<String> {
    let mut frame = error.traceback(py)?.into_any();
    while let Ok(next) = frame.getattr("tb_next") {
        if next.is_none() {
            break;
        }
        frame = next;
    }
    let file = frame.getattr("tb_frame").ok()?.getattr("f_code").ok()?.getattr("co_filename").ok()?;
    Some(format!("{file}, line {}", frame.getattr("tb_lineno").ok()?))
}
