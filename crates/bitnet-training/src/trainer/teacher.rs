//! The teacher of a run.

use bitnet_core::Buffer;
use bitnet_inference::{Checkpoint, Tokenizer};

use super::start::CONFIG;
use super::{RecipeName, Start, TrainOptions, state};
use crate::checkpoint::Fingerprint;
use crate::distillation::Distillation;
use crate::hash::sha256_of_parts;
use crate::model::Decoder;
use crate::nn::Module;
use crate::{Error, Result};

/// A model to learn from.
#[derive(Debug)]
pub(super) struct Teacher {
    pub(super) decoder: Decoder,
    /// Its `config.json`, where it has one.
    config: Option<Buffer>,
}

impl Start {
    /// Lets the model learn from another, a float master or one in full precision, with [`RecipeName::Distill`].
    ///
    /// Errors: those of [`Decoder::from_checkpoint`]; [`Error::Teacher`] for one of other tokens.
    pub fn with_teacher(mut self, checkpoint: &Checkpoint) -> Result<Self> {
        let decoder = Decoder::from_checkpoint(checkpoint)?;
        if let (Some(student), Some(teacher)) = (&self.tokenizer, Tokenizer::read(checkpoint)?) {
            refuse_other_tokens(student, &teacher)?;
        }
        self.teacher = Some(Teacher { decoder, config: checkpoint.file(CONFIG)? });
        Ok(self)
    }
}

fn refuse_other_tokens(student: &Tokenizer, teacher: &Tokenizer) -> Result<()> {
    let ids = 0..student.vocab_size().max(teacher.vocab_size()) as u32;
    let name = |token: Option<String>| token.map_or_else(|| "none".to_owned(), |token| format!("{token:?}"));
    for id in ids {
        let [of_student, of_teacher] = [student, teacher].map(|tokenizer| tokenizer.token(id));
        if of_student != of_teacher {
            let [of_student, of_teacher] = [of_student, of_teacher].map(name);
            let fact = format!("has other tokens: {id} is {of_teacher}, and {of_student} of the student");
            return Err(Error::Teacher(fact));
        }
    }
    Ok(())
}

impl Teacher {
    /// How a student learns, if its recipe says so; added to the facts of the run.
    ///
    /// Errors: [`Error::Teacher`] for one that the recipe has no use for, or needs and has not; those of
    /// [`Distillation::new`].
    pub(super) fn distillation(
        teacher: Option<Self>,
        student: &Decoder,
        options: &TrainOptions,
        facts: &mut Fingerprint,
    ) -> Result<Option<Distillation>> {
        let is_asked = options.recipe == RecipeName::Distill;
        let Some(teacher) = teacher else {
            let missing = || Error::Teacher("is missing: the recipe distill learns from one".to_owned());
            return if is_asked { Err(missing()) } else { Ok(None) };
        };
        if !is_asked {
            let fact = format!("is of no use to the recipe {}: distill learns from one", options.recipe);
            return Err(Error::Teacher(fact));
        }
        let model = state::hash(&teacher.decoder.parameters())?;
        let config = teacher.config.as_deref().unwrap_or_default();
        facts.set("teacher", state::short(&sha256_of_parts(&[model.as_bytes(), config])));
        let distillation = Distillation::new(teacher.decoder, student, &options.distill)?;
        distillation.describe(facts);
        Ok(Some(distillation))
    }
}
