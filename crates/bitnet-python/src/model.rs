//! Models: loading, generating, scoring.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use bitnet_inference::backend::cpu::CpuOptions;
use bitnet_inference::{Checkpoint, EmbedOptions, Error, LoadOptions, LoadedModel, Message};
use numpy::PyArrayDyn;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::to_numpy;
use crate::config::ModelConfig;
use crate::convert::to_python;
use crate::error::{Failure, exception};
use crate::generate_options::generate_options;
use crate::generation::Generation;
use crate::ids::token_ids;
use crate::model_part::{ModelPart, split};
use crate::prompt::OwnedPrompt;
use crate::stream::Stream;
use crate::tokenizer::Tokenizer;

/// Tokens between two looks at Ctrl-C, and whose logits are held at once.
const BATCH: usize = 64;

/// A model that is ready to run; threads may share it. Made by load().
#[pyclass(frozen, module = "bitnet_rust")]
pub(crate) struct Model {
    model: Arc<LoadedModel>,
}

/// Load a model: the embedded bitnet-tiny for None, a folder, a GGUF file, or a hub id such as
/// microsoft/bitnet-b1.58-2B-4T.
///
/// device is "auto", "cpu" or "metal", the GPU of a Mac; auto takes Metal where there is one that gives the results of the
/// CPU. threads defaults to the physical cores this process may use. kv_cache is the type of keys and values, "f32"
/// (loses nothing), "f16" or "int8"; packing that of ternary weights on the CPU, "bits2" or "base3", by default the
/// faster one. gguf decides what a GGUF file leaves open, "activation=silu,i2_s=64,pre=qwen2,pooling=last" or a part
/// of it; the decisions of summary() say what was. activations is what ternary weights multiply, "int8" or "float", by
/// default what the checkpoint says. adapter is a folder with the adapter_config.json and adapter_model.safetensors of
/// LoRA, which runs beside the model. parts are ModelParts that run the layers one after another, with the same results.
/// Where prepare is false, a model without parts is made ready for the CPU when that first runs it: for engines with a
/// backend of their own.
/// Raises ModelNotFoundError, CheckpointError, ConfigError, TokenizerError, HubError, OptionError, DeviceError.
#[pyfunction]
#[pyo3(signature = (path_or_id = None, *, device = "auto", threads = None, kv_cache = "f32", packing = None, gguf = "",
                    activations = None, adapter = None, parts = None, prepare = true))]
#[expect(clippy::too_many_arguments, reason = "the options of the Python call")]
pub(crate) fn load(
    py: Python<'_>,
    path_or_id: Option<PathBuf>,
    device: &str,
    threads: Option<i64>,
    kv_cache: &str,
    packing: Option<&str>,
    gguf: &str,
    activations: Option<&str>,
    adapter: Option<PathBuf>,
    parts: Option<Vec<ModelPart>>,
    prepare: bool,
) -> Result<Model, Failure> {
    let options = load_options(device, threads, kv_cache, packing, gguf, activations, adapter)?;
    let name = path_or_id.map(model_name).transpose()?;
    let Some(parts) = parts else {
        let load = if prepare { LoadedModel::load } else { LoadedModel::load_on_demand };
        return Ok(Model::new(py.detach(|| load(name.as_deref(), &options))?));
    };
    let loaded = py.detach(|| {
        let checkpoint = Checkpoint::find(name.as_deref(), &options.gguf)?;
        LoadedModel::from_checkpoint_on(&checkpoint, &options, |model, _| {
            split(model, &parts, options.threads, options.cpu)
        })
    });
    Ok(Model::new(loaded?))
}

#[pymethods]
impl Model {
    /// What the checkpoint says of the model.
    #[getter]
    fn config(&self) -> ModelConfig {
        ModelConfig::new(self.model.config(), self.model.summary())
    }

    /// The tokenizer. Raises TokenizerError when the checkpoint has none.
    #[getter]
    fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        Tokenizer::new(Arc::clone(&self.model))
    }

    /// What the model is and what it costs to run: the figures of `bitnet inspect`.
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.model.summary())
    }

    /// The text of a conversation as the model was trained on it.
    ///
    /// messages are dicts with role and content. With add_generation_prompt the assistant is next. Raises
    /// ChatTemplateError when the checkpoint has no template, or with what the template itself raises.
    #[pyo3(signature = (messages, add_generation_prompt = true))]
    fn apply_chat_template(
        &self,
        messages: &Bound<'_, PyAny>,
        add_generation_prompt: bool,
    ) -> Result<String, Failure> {
        let part = |message: &Bound<'_, PyAny>, key: &str| -> PyResult<String> {
            let value = message.get_item(key).and_then(|value| value.extract());
            value.map_err(|_| PyTypeError::new_err("messages must be dicts with the texts role and content"))
        };
        let messages: Vec<Message> = messages
            .try_iter()?
            .map(|message| {
                let message = message?;
                Ok(Message { role: part(&message, "role")?, content: part(&message, "content")? })
            })
            .collect::<PyResult<_>>()?;
        Ok(self.model.apply_chat_template(&messages, add_generation_prompt)?)
    }

    /// Logits behind every token: float32 [len(ids), vocab_size].
    ///
    /// Raises PromptError for no ids or an id outside the vocabulary, ContextLengthError.
    fn logits<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyArrayDyn<f32>>, Failure> {
        let ids = token_ids("ids", ids)?;
        let vocab_size = self.model.config().vocab_size;
        let all = py.detach(|| {
            let mut all = Vec::with_capacity(ids.len() * vocab_size);
            self.model.visit_logits(&ids, BATCH, |position, logits: &[f32]| {
                all.extend_from_slice(logits);
                if position % BATCH == 0 {
                    check_signals()?;
                }
                Ok::<(), Failure>(())
            })?;
            Ok::<_, Failure>(all)
        })?;
        Ok(to_numpy(py, all, &[ids.len(), vocab_size])?)
    }

    /// Texts as vectors: h of the last token, or the mean of h over all tokens, with h what the last norm gives; divided by
    /// its length with normalize.
    ///
    /// float32 [len(texts), hidden_size] for several texts, [hidden_size] for one. The tokenizer's special tokens are
    /// added. pooling is "last" or "mean", by default what the checkpoint says, or that of the last token. Short texts are
    /// read together; a vector does not depend on the others. Raises TokenizerError, ContextLengthError, PromptError for a
    /// text without tokens, OptionError, ConfigError for a checkpoint that asks for another pooling.
    #[pyo3(signature = (texts, *, pooling = None, normalize = true))]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        pooling: Option<&str>,
        normalize: bool,
    ) -> Result<Bound<'py, PyArrayDyn<f32>>, Failure> {
        let hidden_size = self.model.config().hidden_size;
        let options = EmbedOptions { pooling: pooling.map(str::parse).transpose()?, normalize };
        let check = || check_signals().map_err(Failure::from);
        if let Ok(text) = texts.extract::<String>() {
            let vector = py.detach(|| self.model.embed_checked(&[&text], &options, check))?;
            return Ok(to_numpy(py, vector, &[hidden_size])?);
        }
        let texts = several("texts", texts)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = py.detach(|| self.model.embed_checked(&texts, &options, check))?;
        Ok(to_numpy(py, vectors, &[texts.len(), hidden_size])?)
    }

    /// Perplexity: exp of the mean negative log-likelihood per token, in nats.
    ///
    /// The text is encoded whole with BOS and cut into windows of window tokens that do not overlap, each with an
    /// empty context; a last, shorter window is left out. Raises PromptError when there is no whole window.
    #[pyo3(signature = (text, window = 512, max_windows = None))]
    fn perplexity(
        &self,
        py: Python<'_>,
        text: &str,
        window: i64,
        max_windows: Option<i64>,
    ) -> Result<f64, Failure> {
        let window = count("window", window)?;
        let max_windows = max_windows.map(|windows| count("max_windows", windows)).transpose()?;
        let result = py.detach(|| {
            self.model.perplexity(text, window, max_windows, |_, _| check_signals().map_err(Failure::from))
        })?;
        Ok(result.perplexity)
    }

    /// Continue prompt, a text or token ids, and return the whole continuation.
    ///
    /// temperature 0 takes the most probable token; the defaults of the other options do nothing; the same seed gives
    /// the same text. docs/sampling.md says what each option does. stop is a text or several that end the generation and
    /// are not part of it. regex, or json_schema as a dict or text, is what the text must match as a whole: it does when
    /// finish_reason is "stop" and no stop string came up. logprobs asks for the log-probability of each token, and of
    /// this many of the most probable ones.
    ///
    /// speculate="lookup" guesses next tokens from the prompt and the text so far, draft with a smaller model that has the
    /// same tokens; guesses is how many a step has, by default as many as are worth their time. The text is the same with
    /// and without, and faster where guesses are right.
    ///
    /// Raises PromptError, ContextLengthError, OptionError, TokenizerError.
    #[pyo3(signature = (prompt, **options),
           text_signature = "($self, prompt, *, max_tokens=128, stop=(), temperature=0.0, dynatemp_range=0.0, \
                             dynatemp_exponent=1.0, temperature_last=False, top_k=0, top_p=1.0, min_p=0.0, \
                             typical_p=1.0, top_n_sigma=0.0, xtc_probability=0.0, xtc_threshold=0.1, mirostat=0, \
                             mirostat_tau=5.0, mirostat_eta=0.1, repetition_penalty=1.0, presence_penalty=0.0, \
                             frequency_penalty=0.0, repeat_last_n=None, dry_multiplier=0.0, dry_base=1.75, \
                             dry_allowed_length=2, dry_penalty_last_n=None, \
                             dry_sequence_breakers=('\\n', ':', '\"', '*'), logit_bias=None, regex=None, \
                             json_schema=None, logprobs=None, seed=None, speculate=None, draft=None, \
                             guesses=None)")]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> Result<Generation, Failure> {
        self.stream(py, prompt, options)?.finish(py)
    }

    /// Continue prompt and return an iterator over the chunks as they come. Options as generate().
    #[pyo3(signature = (prompt, **options),
           text_signature = "($self, prompt, *, max_tokens=128, stop=(), temperature=0.0, dynatemp_range=0.0, \
                             dynatemp_exponent=1.0, temperature_last=False, top_k=0, top_p=1.0, min_p=0.0, \
                             typical_p=1.0, top_n_sigma=0.0, xtc_probability=0.0, xtc_threshold=0.1, mirostat=0, \
                             mirostat_tau=5.0, mirostat_eta=0.1, repetition_penalty=1.0, presence_penalty=0.0, \
                             frequency_penalty=0.0, repeat_last_n=None, dry_multiplier=0.0, dry_base=1.75, \
                             dry_allowed_length=2, dry_penalty_last_n=None, \
                             dry_sequence_breakers=('\\n', ':', '\"', '*'), logit_bias=None, regex=None, \
                             json_schema=None, logprobs=None, seed=None, speculate=None, draft=None, \
                             guesses=None)")]
    fn stream(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> Result<Stream, Failure> {
        let options = generate_options(options)?;
        let prompt = OwnedPrompt::new(prompt)?;
        Ok(Stream::new(py.detach(|| self.model.stream(prompt.get(), &options))?))
    }

    fn __repr__(&self) -> String {
        let summary = self.model.summary();
        let (family, parameters) = (&summary.family, summary.parameters as f64 / 1e6);
        format!(
            "Model({:?}, {family}, {parameters:.1} M parameters, {})",
            summary.model,
            self.model.backend().description()
        )
    }
}

impl Model {
    pub(crate) fn new(model: Arc<LoadedModel>) -> Self {
        Self { model }
    }

    /// What it holds.
    pub(crate) fn loaded(&self) -> &Arc<LoadedModel> {
        &self.model
    }
}

/// The options of [`load`] and of whatever else loads a model.
pub(crate) fn load_options(
    device: &str,
    threads: Option<i64>,
    kv_cache: &str,
    packing: Option<&str>,
    gguf: &str,
    activations: Option<&str>,
    adapter: Option<PathBuf>,
) -> Result<LoadOptions, Failure> {
    let threads = threads.map(|threads| count("threads", threads)).transpose()?;
    let packing = packing.map(str::parse).transpose()?;
    let cpu = CpuOptions { isa: None, packing, kv_cache: kv_cache.parse()? };
    let activations = activations.map(str::parse).transpose()?;
    Ok(LoadOptions { device: device.parse()?, threads, cpu, gguf: gguf.parse()?, activations, adapter })
}

/// A path or a hub id as text.
pub(crate) fn model_name(path: PathBuf) -> Result<String, Failure> {
    let error =
        |path: OsString| exception("ModelNotFoundError", &format!("{}: is not UTF-8", path.display()));
    Ok(path.into_os_string().into_string().map_err(error)?)
}

/// Looks at Ctrl-C from code that runs without the interpreter.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method is not general enough in its lifetime"
)]
pub(crate) fn check_signals() -> PyResult<()> {
    Python::attach(|py| py.check_signals())
}

/// A number that counts something.
pub(crate) fn count(name: &'static str, value: i64) -> Result<usize, Failure> {
    let expected = "at least 0";
    usize::try_from(value).map_err(|_| Error::InvalidOption { name, expected, got: value.to_string() }.into())
}

/// Several texts.
pub(crate) fn several(name: &str, texts: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    texts
        .try_iter()
        .and_then(|texts| texts.map(|text| text?.extract()).collect())
        .map_err(|_| PyTypeError::new_err(format!("{name} must be a text or a sequence of texts")))
}
