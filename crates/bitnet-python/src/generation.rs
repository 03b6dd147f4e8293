//! What a generation gives: pieces of text, and the whole with its figures.

use pyo3::prelude::*;

/// How long a generation took.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
#[expect(clippy::struct_field_names, reason = "units belong into names")]
pub(crate) struct Timings {
    /// Seconds from the start to the first token.
    prefill_s: f64,
    /// Seconds from the first token to the last.
    decode_s: f64,
    /// Prompt tokens per second of prefill.
    prefill_tokens_per_s: f64,
    /// Tokens per second after the first; 0 when there is only one.
    decode_tokens_per_s: f64,
}

#[pymethods]
impl Timings {
    fn __repr__(&self) -> String {
        format!(
            "Timings(prefill {:.1} tokens/s, decode {:.1} tokens/s)",
            self.prefill_tokens_per_s, self.decode_tokens_per_s
        )
    }
}

/// A generated text; str() gives the text.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct Generation {
    /// The text, without prompt and stop string.
    text: String,
    /// The generated tokens, without the one that ended the text.
    token_ids: Vec<u32>,
    /// What the model says of each of them; None unless logprobs was given.
    logprobs: Option<Vec<Py<Logprobs>>>,
    /// Length of the prompt, in tokens.
    prompt_tokens: usize,
    /// Number of generated tokens.
    completion_tokens: usize,
    /// "stop" (end of text or a stop string), "length" (max_tokens or the end of the context), or "cancelled".
    finish_reason: String,
    /// The seed that reproduces it.
    seed: u64,
    /// How long it took.
    timings: Py<Timings>,
    /// Guesses of next tokens that were computed.
    guesses_proposed: u64,
    /// Those that came true.
    guesses_accepted: u64,
}

impl Generation {
    pub(crate) fn new(py: Python<'_>, generation: bitnet_inference::Generation) -> PyResult<Self> {
        let t = generation.timings;
        let timings = Timings {
            prefill_s: t.prefill_s,
            decode_s: t.decode_s,
            prefill_tokens_per_s: t.prefill_tokens_per_s,
            decode_tokens_per_s: t.decode_tokens_per_s,
        };
        Ok(Self {
            text: generation.text,
            completion_tokens: generation.token_ids.len(),
            token_ids: generation.token_ids,
            logprobs: generation
                .logprobs
                .map(|all| all.into_iter().map(|one| Logprobs::new(py, one)).collect())
                .transpose()?,
            prompt_tokens: generation.prompt_tokens,
            finish_reason: generation.finish_reason.to_string(),
            seed: generation.seed,
            timings: Py::new(py, timings)?,
            guesses_proposed: generation.guesses.proposed,
            guesses_accepted: generation.guesses.accepted,
        })
    }
}

#[pymethods]
impl Generation {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!(
            "Generation({:?}, {} tokens, finished: {})",
            self.text, self.completion_tokens, self.finish_reason
        )
    }
}

/// What the model itself says of a token: ln softmax(logits), in nats, before penalties and temperature.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct Logprobs {
    /// That of the token that was chosen.
    logprob: f32,
    /// The most probable tokens and theirs, as many as were asked for.
    top: Vec<(u32, f32)>,
}

impl Logprobs {
    fn new(py: Python<'_>, logprobs: bitnet_inference::Logprobs) -> PyResult<Py<Self>> {
        Py::new(py, Self { logprob: logprobs.logprob, top: logprobs.top })
    }
}

#[pymethods]
impl Logprobs {
    fn __repr__(&self) -> String {
        format!("Logprobs({}, {} of the most probable)", self.logprob, self.top.len())
    }
}

/// A piece of a text as it is generated.
#[pyclass(frozen, get_all, module = "bitnet_rust")]
pub(crate) struct Chunk {
    /// Whole characters; empty while a character or a possible stop string is incomplete.
    pub(crate) text: String,
    /// The token that was added; None for text that was held back until the end.
    pub(crate) token_id: Option<u32>,
    /// What the model says of the token; None unless logprobs was given.
    logprobs: Option<Py<Logprobs>>,
}

impl Chunk {
    pub(crate) fn new(py: Python<'_>, chunk: bitnet_inference::Chunk) -> PyResult<Self> {
        let logprobs = chunk.logprobs.map(|one| Logprobs::new(py, one)).transpose()?;
        Ok(Self { text: chunk.text, token_id: chunk.token_id, logprobs })
    }
}

#[pymethods]
impl Chunk {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        match self.token_id {
            Some(id) => format!("Chunk({:?}, {id})", self.text),
            None => format!("Chunk({:?}, None)", self.text),
        }
    }
}
