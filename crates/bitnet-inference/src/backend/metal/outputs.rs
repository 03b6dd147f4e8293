//! From the outputs of the layers to logits, and to what a sampler may choose.

use std::ops::Range;

use bitnet_metal::{Bindings, Dispatch, Gpu, Memory, Step};

use super::error::failed;
use super::prepared::Head;
use super::session::MetalSession;
use crate::backend::{Candidate, Choice, Cut, Limits};
use crate::config::ModelConfig;
use crate::{Error, Result};

/// Bytes of logits that are computed together, at most, but for those of one output.
const LOGIT_BYTES: usize = 64 << 20;

/// What a session keeps of its outputs.
#[derive(Debug)]
pub(super) struct Outputs<M> {
    hidden_size: usize,
    vocab_size: usize,
    /// Outputs of the last batch.
    count: usize,
    /// What the last norm gives, `[outputs, hidden_size]`; grown when there are more than before, as is
    /// `logits`.
    normed: M,
    /// Of at most `most_logits` outputs, `[outputs, vocab_size]`.
    logits: M,
    most_logits: usize,
    /// Of which outputs these are.
    computed: Range<usize>,
    /// The largest of each row of logits, and where it is.
    best_ids: M,
    best_values: M,
    /// Where the CPU reads them.
    floats: Vec<f32>,
    /// `None` where the model gives no numbers.
    answers: Vec<Option<Vec<Candidate>>>,
}

impl<M: Memory> Outputs<M> {
    pub(super) fn new<G: Gpu<Memory = M>>(gpu: &G, config: &ModelConfig, limits: Limits) -> Result<Self> {
        let ModelConfig { hidden_size, vocab_size, .. } = *config;
        let most_logits = (LOGIT_BYTES / (vocab_size * 4)).min(limits.tokens).max(1);
        Ok(Self {
            hidden_size,
            vocab_size,
            count: 0,
            normed: gpu.allocate(hidden_size * 4)?,
            logits: gpu.allocate(vocab_size * 4)?,
            most_logits,
            computed: 0..0,
            best_ids: gpu.allocate(most_logits * 4)?,
            best_values: gpu.allocate(most_logits * 4)?,
            floats: Vec::new(),
            answers: Vec::new(),
        })
    }

    /// Forgets the outputs there were, and makes room for `count`.
    pub(super) fn begin<G: Gpu<Memory = M>>(&mut self, gpu: &G, count: usize) -> Result<()> {
        (self.count, self.computed) = (count, 0..0);
        grow(gpu, &mut self.normed, count * self.hidden_size * 4)?;
        grow(gpu, &mut self.logits, count.min(self.most_logits) * self.vocab_size * 4)
    }

    /// What the last norm gives.
    pub(super) fn normed(&self) -> &M {
        &self.normed
    }

    /// The outputs whose logits are computed with the layers: all, or none where they are many, which may not
    /// be asked for.
    pub(super) fn first_logits(&self) -> Range<usize> {
        if self.count <= self.most_logits { 0..self.count } else { 0..0 }
    }

    /// Takes note that there are logits of these outputs.
    pub(super) fn computed(&mut self, outputs: Range<usize>) {
        self.computed = outputs;
    }

    pub(super) fn read_hidden(&mut self, outputs: Range<usize>) -> &[f32] {
        assert!(outputs.end <= self.count, "outputs {outputs:?} of {}", self.count);
        self.floats.resize(outputs.len() * self.hidden_size, 0.0);
        self.normed.read(outputs.start * self.hidden_size * 4, bytemuck::cast_slice_mut(&mut self.floats));
        &self.floats
    }

    /// The answer to one of the last choices.
    pub(super) fn answer(&self, choice: usize) -> Result<&[Candidate]> {
        self.answers[choice].as_deref().ok_or_else(|| Error::NotFinite { what: "a logit".to_owned() })
    }

    /// The logits of an output that are there, into `floats` from `at` on.
    fn read_row(&mut self, output: usize, at: usize) {
        let row = output - self.computed.start;
        let floats = &mut self.floats[at..at + self.vocab_size];
        self.logits.read(row * self.vocab_size * 4, bytemuck::cast_slice_mut(floats));
    }

    /// What a cut keeps of an output whose logits are there.
    fn keep(&mut self, output: usize, cut: &Cut<'_>) -> Option<Vec<Candidate>> {
        if is_greedy(cut) {
            let row = output - self.computed.start;
            let (mut id, mut logit) = ([0; 4], [0; 4]);
            self.best_ids.read(row * 4, &mut id);
            self.best_values.read(row * 4, &mut logit);
            let best = Candidate { id: u32::from_ne_bytes(id), logit: f32::from_ne_bytes(logit) };
            return best.logit.is_finite().then(|| vec![best]);
        }
        self.floats.resize(self.vocab_size, 0.0);
        self.read_row(output, 0);
        let mut kept = Vec::new();
        // The one error there is says that a logit is no number.
        cut.keep(&self.floats, &mut kept).is_ok().then_some(kept)
    }
}

/// Whether the largest logit is all there is to know.
fn is_greedy(cut: &Cut<'_>) -> bool {
    let adjustment = &cut.adjustment;
    let changes_nothing = adjustment.counts.is_empty() || adjustment.repetition_penalty == 1.0;
    cut.top_k == 1 && changes_nothing && adjustment.offsets.is_empty() && adjustment.allowed.is_none()
}

fn grow<G: Gpu>(gpu: &G, memory: &mut G::Memory, bytes: usize) -> Result<()> {
    if memory.size_bytes() < bytes {
        *memory = gpu.allocate(bytes)?;
    }
    Ok(())
}

impl<G: Gpu> MetalSession<G> {
    /// Appends what makes logits of some outputs, and finds the largest of each.
    pub(super) fn model_logits<'a>(&'a self, step: &mut Step<'a, G>, outputs: Range<usize>) {
        let (model, o) = (&*self.model, &self.outputs);
        let (first, count) = (outputs.start, outputs.len());
        match &model.head {
            Head::Tied(product) => {
                step.then(product.dispatch(&model.table, &o.normed, first, count, &o.logits));
            }
            Head::Float(weights, product) => {
                step.then(product.dispatch(weights, &o.normed, first, count, &o.logits));
            }
            Head::Ternary(quantize, linear) => {
                let (width, quantized) = (o.hidden_size, &self.activations.quantized);
                let eps = model.config.rms_norm_eps;
                let all = quantize.dispatch(&o.normed, width, None, eps, count, width, quantized);
                step.then(starting_at(all, first * width * 4));
                step.then(linear.product.dispatch(
                    &linear.weights,
                    quantized,
                    count,
                    &o.logits,
                    o.vocab_size,
                ));
            }
        }
        step.then(model.argmax.dispatch(&o.logits, count, o.vocab_size, &o.best_ids, &o.best_values));
    }

    /// Computes the logits of an output, and of those behind it, unless they are there.
    fn compute_logits(&mut self, output: usize) -> Result<()> {
        assert!(output < self.outputs.count, "output {output} of {}", self.outputs.count);
        if self.outputs.computed.contains(&output) {
            return Ok(());
        }
        let outputs = output..self.outputs.count.min(output + self.outputs.most_logits);
        self.outputs.computed = 0..0;
        let mut step = Step::new();
        self.model_logits(&mut step, outputs.clone());
        let time = self.gpu.run(step.dispatches()).map_err(|error| failed(error, self.outputs.count))?;
        drop(step);
        self.traffic.device_ns += time.as_nanos() as u64;
        self.traffic.weight_bytes += self.model.head_bytes() as u64;
        self.outputs.computed = outputs;
        Ok(())
    }

    pub(super) fn read_logits(&mut self, outputs: Range<usize>) -> Result<&[f32]> {
        let vocab_size = self.outputs.vocab_size;
        self.outputs.floats.resize(outputs.len() * vocab_size, 0.0);
        for (index, output) in outputs.enumerate() {
            self.compute_logits(output)?;
            self.outputs.read_row(output, index * vocab_size);
        }
        Ok(&self.outputs.floats)
    }

    /// Answers choices one after another.
    pub(super) fn answer(&mut self, choices: &[Choice<'_>]) -> Result<()> {
        self.outputs.answers.clear();
        for Choice { output, cut } in choices {
            self.compute_logits(*output)?;
            let kept = self.outputs.keep(*output, cut);
            self.outputs.answers.push(kept);
        }
        Ok(())
    }
}

/// The same, where the first buffer begins `bytes` later.
fn starting_at<G: Gpu>(dispatch: Dispatch<'_, G>, bytes: usize) -> Dispatch<'_, G> {
    let buffers: Bindings<'_, G::Memory> = dispatch.buffers.at(0, bytes);
    Dispatch { buffers, ..dispatch }
}
