//! Learning from another model: the loss of a student that is to become like its teacher.
//!
//! `L = cross-entropy + a KL(p || q) + b (K(Q) + K(K) + K(V))`: the logits of the teacher at a temperature, see
//! [`distilled_cross_entropy`], and the relations of its queries, keys and values in one layer, see [`relation_divergence`].
//! The form of the loss is that of `BitDistill` (arXiv 2510.13998), after Hinton et al. (arXiv 1503.02531) and `MiniLMv2` (arXiv
//! 2012.15828).

mod options;

use bitnet_inference::ModelConfig;

pub use self::options::DistillOptions;
use crate::autograd::{
    DistilledLoss, Estimator, Segments, SoftTargets, distilled_cross_entropy, linear_cross_entropy, no_grad,
    relation_divergence,
};
use crate::checkpoint::Fingerprint;
use crate::metrics::LossParts;
use crate::model::{Decoder, Heads, States};
use crate::{Error, Result, Variable};

/// A loss and what it is made of.
#[derive(Debug)]
pub struct Losses {
    /// What is to fall.
    pub total: Variable,
    /// Mean over the targets, nats.
    pub cross_entropy: f64,
    /// The rest, where there is a teacher.
    pub parts: LossParts,
}

impl Losses {
    /// A cross-entropy alone. Errors: [`bitnet_core::Error::OutOfMemory`].
    pub fn cross_entropy(total: Variable) -> Result<Self> {
        let cross_entropy = total.value().to_f32()?[0].into();
        Ok(Self { total, cross_entropy, parts: LossParts::default() })
    }
}

/// A teacher, and how to learn from it.
#[derive(Debug)]
pub struct Distillation {
    teacher: Decoder,
    options: DistillOptions,
    /// Of the student and of the teacher.
    layers: [usize; 2],
    heads: usize,
}

impl Distillation {
    /// Lets a student learn from a decoder of any kind, with ternary linears or in full precision.
    ///
    /// Errors: [`Error::Teacher`] for one of another vocabulary, or a layer that is not in both;
    /// [`Error::InvalidOption`].
    pub fn new(teacher: Decoder, student: &Decoder, options: &DistillOptions) -> Result<Self> {
        options.check()?;
        let (of_teacher, of_student) = (teacher.config(), student.config());
        if of_teacher.vocab_size != of_student.vocab_size {
            let [has, needs] = [of_teacher, of_student].map(|config| config.vocab_size);
            return Err(Error::Teacher(format!(
                "has a vocabulary of {has} tokens, and the student of {needs}"
            )));
        }
        let layers = relation_layers([of_student.layers, of_teacher.layers], options.relation_layer)?;
        let heads = relation_heads([of_student, of_teacher], options.relation_heads)?;
        Ok(Self { teacher, options: options.clone(), layers, heads })
    }

    /// How.
    pub fn options(&self) -> &DistillOptions {
        &self.options
    }

    /// Adds what the loss depends on, apart from the teacher itself, to the facts of a run.
    pub fn describe(&self, facts: &mut Fingerprint) {
        let DistillOptions { temperature, logit_weight, relation_weight, ramp, .. } = self.options;
        facts.set("temperature", temperature);
        facts.set("logit-weight", logit_weight);
        facts.set("relation-weight", relation_weight);
        facts.set("relation-layer", self.layers[0]);
        facts.set("relation-heads", self.heads);
        facts.set("ramp", ramp);
    }

    /// The loss of a student, and its parts. The rest is as in [`Decoder::loss`].
    ///
    /// Errors: those of [`Decoder::loss`].
    pub fn loss(
        &self,
        student: &Decoder,
        tokens: &[u32],
        targets: &[u32],
        segments: &Segments,
        estimator: Estimator,
    ) -> Result<Losses> {
        let DistillOptions { temperature, logit_weight, relation_weight, .. } = self.options;
        let [layer, layer_of_teacher] = self.layers.map(|layer| (relation_weight > 0.0).then_some(layer));
        let taught = (logit_weight > 0.0 || relation_weight > 0.0)
            .then(|| no_grad(|| self.teacher.states(tokens, segments, Estimator::Plain, layer_of_teacher)))
            .transpose()?;
        let States { hidden, heads } = student.states(tokens, segments, estimator, layer)?;
        let head = student.head().variable();
        let mut losses = match &taught {
            Some(taught) if logit_weight > 0.0 => {
                let (h, w) = (taught.hidden.value(), self.teacher.head().variable().value());
                let soft = SoftTargets { h: &h, w: &w, temperature, weight: logit_weight };
                let DistilledLoss { loss: total, cross_entropy, divergence } =
                    distilled_cross_entropy(&hidden, head, targets, &soft)?;
                let parts = LossParts { logit_kl: Some(divergence), relation_kl: None };
                Losses { total, cross_entropy, parts }
            }
            _ => Losses::cross_entropy(linear_cross_entropy(&hidden, head, targets)?)?,
        };
        if let (Some(heads), Some(of_teacher)) = (heads, taught.and_then(|taught| taught.heads)) {
            let relation = self.relations(&heads, &of_teacher, segments)?;
            losses.parts.relation_kl = Some(relation.value().to_f32()?[0].into());
            losses.total = losses.total.add(&relation.scaled(relation_weight)?)?;
        }
        Ok(losses)
    }

    /// The divergences of queries, keys and values together.
    fn relations(&self, student: &Heads, teacher: &Heads, segments: &Segments) -> Result<Variable> {
        let [q, k, v] = [0, 1, 2]
            .map(|part| relation_divergence(&student[part], &teacher[part].value(), segments, self.heads));
        q?.add(&k?)?.add(&v?)
    }
}

/// The layers of student and teacher, which have so many.
fn relation_layers(depths: [usize; 2], layer: Option<usize>) -> Result<[usize; 2]> {
    let Some(layer) = layer else { return Ok(depths.map(|depth| depth - 1)) };
    if depths.into_iter().all(|depth| layer < depth) {
        return Ok([layer; 2]);
    }
    let [student, teacher] = depths;
    Err(Error::Teacher(format!(
        "has {teacher} layers, the student {student}, counted from 0: layer {layer} is not in both"
    )))
}

/// Heads that the vectors of both models can be cut into.
fn relation_heads(models: [&ModelConfig; 2], heads: Option<usize>) -> Result<usize> {
    let heads = heads.unwrap_or_else(|| gcd(models[0].kv_heads, models[1].kv_heads));
    let mut widths =
        models.into_iter().flat_map(|of| [of.heads, of.kv_heads].map(|heads| heads * of.head_dim));
    match widths.find(|width| !width.is_multiple_of(heads)) {
        None => Ok(heads),
        Some(width) => {
            let expected = "a divisor of the widths of queries, keys and values of both models";
            let got = format!("{heads}: one of them is {width}");
            Err(Error::InvalidOption { name: "relation-heads", expected, got })
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
