//! What quantization does to a model: a float model and its quantized form read the same text side by side.
//!
//! On its way the float model shows what each of its linears multiplies. Of that, statistics of all and a sample of
//! tokens are kept, in memory that does not grow with the text; on the sample, each linear is then measured at every
//! precision: `x V^T` against `x W^T`, with V what W becomes. End to end, the next tokens are compared.
//!
//! Nothing depends on the number of threads.

mod calibration;
mod divergence;
mod layers;
mod serialize;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_quant::{Packing, Precision, TernaryRule, Threshold};
use serde::Serialize;

use self::calibration::Calibration;
pub use self::calibration::LinearInput;
use self::divergence::Divergence;
pub use self::divergence::EndToEnd;
pub use self::layers::Layer;
use crate::backend::cpu::{CpuBackend, CpuOptions, Observed};
use crate::config::{ModelConfig, WeightForm};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::verify::reading::TEXT;
use crate::{Checkpoint, Error, Result};

/// Tokens that are read with one context; the next ones start with an empty one.
const WINDOW: usize = 512;
/// Tokens whose logits are held at once, of both models.
const BATCH: usize = 64;
/// Tokens whose inputs are kept to measure errors of outputs.
const SAMPLE: usize = 64;

/// How to measure.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// Tokens of the text that are read at most.
    pub tokens: usize,
    /// What is measured of every linear; the first one ranks them.
    pub precisions: Vec<Precision>,
    /// What the outputs of a linear must reach at the precision that is recommended, dB.
    pub min_sqnr_db: f64,
}

impl Default for ReportOptions {
    fn default() -> Self {
        let precisions = vec![Precision::Ternary(TernaryRule::Absmean), Precision::Int(4), Precision::Int(8)];
        Self { tokens: 1024, precisions, min_sqnr_db: 10.0 }
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The quantized model: where it comes from.
    pub model: String,
    /// What its ternary linears are, and what they multiply.
    pub quantized: String,
    /// The float model: where it comes from.
    pub reference: String,
    /// Tokens that were read.
    pub tokens: usize,
    /// Those among them on which linears were measured.
    pub sampled_tokens: usize,
    /// What the outputs of a linear were to reach, dB.
    pub min_sqnr_db: f64,
    /// How the models differ in what they predict.
    pub end_to_end: EndToEnd,
    /// Mean over the weights of all linears, at the precisions recommended; float ones with the bits they are stored in.
    pub recommended_bits: f64,
    /// Every linear that is ternary in the quantized model, the most sensitive first; the head is not among them.
    pub layers: Vec<Layer>,
    /// What the linears multiply, in the order of the model.
    pub inputs: Vec<LinearInput>,
}

/// Measures what quantization does to `model`, a checkpoint of floats; or what it did to `model`, a quantized form of the
/// floats of `reference`. Without a `text`, some everyday English is read.
///
/// `progress(done, all)` is called before each step and may stop the work by returning an error.
///
/// Errors: those of loading, [`Error::PackedWeights`] where floats are needed, [`Error::Checkpoint`] for models of
/// different shapes, [`Error::TextTooShort`], [`Error::InvalidOption`], [`Error::NotFinite`], [`Error::Tokenizer`].
pub fn report<E: From<Error>>(
    model: &Checkpoint,
    reference: Option<&Checkpoint>,
    text: Option<&str>,
    options: &ReportOptions,
    pool: &Arc<ThreadPool>,
    mut progress: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<Report, E> {
    check(options)?;
    let source = reference.unwrap_or(model);
    let floats = Model::load_floats(source, pool)?;
    let quantized = match reference {
        None => Model::load_ternarized(model, pool)?,
        Some(_) => Model::load(model, pool)?,
    };
    check_shapes(&quantized.config, model, &floats.config, source)?;
    let ids = ids(text.unwrap_or(TEXT), options.tokens, &floats.config, source, model)?;
    let measured = layers::measured(&quantized);
    if measured.is_empty() {
        return Err(Error::checkpoint(model.path(), "no linear of its blocks is to be ternary").into());
    }
    let window = WINDOW.min(floats.config.context_length);
    let windows = (ids.len() - 1).div_ceil(window);
    let steps = windows + measured.len();

    let pair = Pair::new(&floats, &quantized, pool)?;
    let mut calibration = Calibration::new(ids.len() - 1, SAMPLE);
    let mut divergence = Divergence::default();
    for index in 0..windows {
        progress(index, steps)?;
        let end = ((index + 1) * window).min(ids.len() - 1);
        pair.read(&ids[index * window..=end], &mut calibration, &mut divergence)?;
    }
    drop(pair);

    let meter = layers::Meter {
        checkpoint: source,
        quantized: reference.map(|_| &quantized),
        calibration: &calibration,
        precisions: &options.precisions,
        pool,
    };
    let mut found = Vec::with_capacity(measured.len());
    for (name, linear) in floats.named_linears().filter(|(name, _)| measured.contains(name)) {
        progress(windows + found.len(), steps)?;
        found.push(meter.measure(&name, linear)?);
    }
    let threshold = Threshold { min_sqnr_db: options.min_sqnr_db, min_cosine: -1.0 };
    let layers = layers::ranked(found, &threshold);
    Ok(Report {
        model: model.path().display().to_string(),
        quantized: describe(&quantized),
        reference: source.path().display().to_string(),
        tokens: ids.len() - 1,
        sampled_tokens: calibration.sampled(),
        min_sqnr_db: options.min_sqnr_db,
        end_to_end: divergence.end_to_end(),
        recommended_bits: layers::mean_bits(&layers),
        layers,
        inputs: calibration.into_inputs(pool)?,
    })
}

fn check(options: &ReportOptions) -> Result<()> {
    let refuse = |name, expected, got: String| Err(Error::InvalidOption { name, expected, got });
    let precisions = &options.precisions;
    if options.tokens == 0 {
        return refuse("tokens", "at least 1", "0".to_owned());
    }
    if precisions.is_empty() {
        return refuse("precisions", "at least one", "none".to_owned());
    }
    if let Some((_, twice)) =
        precisions.iter().enumerate().find(|(index, one)| precisions[..*index].contains(one))
    {
        return refuse("precisions", "each named once", format!("{twice} twice"));
    }
    if options.min_sqnr_db.is_nan() {
        return refuse("min_sqnr_db", "a number", "NaN".to_owned());
    }
    Ok(())
}

/// The two models must be forms of one.
fn check_shapes(
    ours: &ModelConfig,
    model: &Checkpoint,
    theirs: &ModelConfig,
    reference: &Checkpoint,
) -> Result<()> {
    let sizes = |config: &ModelConfig| {
        [
            ("blocks", config.layers),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("query heads", config.heads),
            ("key and value heads", config.kv_heads),
            ("head_dim", config.head_dim),
            ("tokens in the vocabulary", config.vocab_size),
        ]
    };
    let mut pairs = sizes(ours).into_iter().zip(sizes(theirs));
    let Some(((what, ours), (_, theirs))) = pairs.find(|(ours, theirs)| ours != theirs) else {
        return Ok(());
    };
    let reference = reference.path().display();
    let reason = format!("another shape than the reference {reference}: {what}, {ours} against {theirs}");
    Err(Error::checkpoint(model.path(), reason))
}

/// The ids to read and the one that follows them, of the tokenizer of either checkpoint.
fn ids(
    text: &str,
    tokens: usize,
    config: &ModelConfig,
    source: &Checkpoint,
    model: &Checkpoint,
) -> Result<Vec<u32>> {
    let tokenizer = match Tokenizer::read(source)? {
        Some(tokenizer) => Some(tokenizer),
        None => Tokenizer::read(model)?,
    };
    let tokenizer = tokenizer.ok_or_else(|| {
        let (path, reason) = Tokenizer::missing(source);
        Error::Tokenizer { path, reason: reason.to_owned() }
    })?;
    let mut ids = tokenizer.encode(text, true)?;
    if ids.len() < 2 {
        return Err(Error::TextTooShort { tokens: ids.len(), needed: 2 });
    }
    ids.truncate(tokens.saturating_add(1));
    let vocab_size = config.vocab_size;
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&id) => Err(Error::TokenOutOfRange { id, vocab_size }),
        None => Ok(ids),
    }
}

fn describe(quantized: &Model) -> String {
    let weights = match quantized.stored {
        WeightForm::Packed => "packed ternary weights",
        WeightForm::Master => "weights made ternary by absmean",
        WeightForm::Ternary => "weights that are ternary as stored",
    };
    format!("{weights}, {} activations", quantized.config.quantization.activations.name())
}

/// The float model and the quantized one, ready to run.
struct Pair {
    floats: CpuBackend,
    quantized: CpuBackend,
    vocab_size: usize,
}

impl Pair {
    fn new(floats: &Model, quantized: &Model, pool: &Arc<ThreadPool>) -> Result<Self> {
        // Measuring which packing is faster takes longer than the text.
        let options = CpuOptions { packing: Some(Packing::Bits2), ..CpuOptions::default() };
        let prepare = |model: &Model| CpuBackend::new(model.clone(), Arc::clone(pool), &options);
        let vocab_size = floats.config.vocab_size;
        Ok(Self { floats: prepare(floats)?, quantized: prepare(quantized)?, vocab_size })
    }

    /// Reads all ids but the last with an empty context; each is to predict the next one.
    fn read(&self, ids: &[u32], calibration: &mut Calibration, divergence: &mut Divergence) -> Result<()> {
        let (inputs, targets) = (&ids[..ids.len() - 1], &ids[1..]);
        let mut floats = self.floats.sequence(inputs.len())?;
        let mut quantized = self.quantized.sequence(inputs.len())?;
        for (inputs, targets) in inputs.chunks(BATCH).zip(targets.chunks(BATCH)) {
            let mut seen = Ok(());
            floats.feed_observed(inputs, &mut |layer, observed| {
                if let (Ok(()), Observed::Input(linears, x)) = (&seen, observed) {
                    seen = calibration.add(layer, linears, x, inputs.len());
                }
            })?;
            seen?;
            calibration.advance(inputs.len());
            quantized.feed(inputs, inputs.len())?;
            let float_logits = floats.logits(inputs.len())?.chunks_exact(self.vocab_size);
            let quantized_logits = quantized.logits(inputs.len())?.chunks_exact(self.vocab_size);
            for ((p, q), target) in float_logits.zip(quantized_logits).zip(targets) {
                divergence.add(p, q, *target)?;
            }
        }
        Ok(())
    }
}
