//! The end of a run: a model that the engine runs, and a curve.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use bitnet_core::{DType, Tensor};
use bitnet_inference::convert::{ConvertOptions, HfForm, Target, convert};
use bitnet_inference::drawing::{png, svg};
use bitnet_inference::{Checkpoint, atomic_file, atomic_folder};

use super::Start;
use super::other_values::with_values;
use super::run::{Trained, Trainer};
use super::state::restore_parameters;
use crate::checkpoint::SavedCheckpoint;
use crate::metrics::{self, Curve, Metrics};
use crate::nn::Module;
use crate::{Error, Result};

impl Trainer {
    /// Writes the best model, and the curve.
    pub(super) fn finish(&mut self) -> Result<Trained> {
        let metrics: Vec<Metrics> = metrics::read(&self.folder.metrics())?;
        self.write_curve(&metrics)?;
        let (mut model_step, mut eval_loss) = (self.step, self.eval_loss);
        if let Some(best) = self.folder.store.best()? {
            let best = SavedCheckpoint::read(&best)?;
            restore_parameters(&self.parameters, &best)?;
            (model_step, eval_loss) = (best.state.step, best.state.eval_loss);
        }
        // Whole before the model of an earlier end gives way to it.
        let model = if self.start.is_adapter() { self.folder.adapter() } else { self.folder.model() };
        let next = self.folder.next_model();
        remove(&next)?;
        match &self.interpolation {
            None => self.start.write(&next, &self.pool)?,
            Some(interpolation) => {
                let between = interpolation.values(&self.parameters)?;
                eval_loss = with_values(&self.parameters, between, || {
                    self.start.write(&next, &self.pool)?;
                    self.loss_of_evaluation()
                })?;
            }
        }
        remove(&model)?;
        fs::rename(&next, &model).map_err(|error| Error::io(&model, error))?;
        let loss = metrics.last().map(|last| last.loss);
        let [trained_parameters, parameters] = self.parameter_counts();
        Ok(Trained { model, steps: self.step, model_step, loss, eval_loss, trained_parameters, parameters })
    }

    fn write_curve(&self, metrics: &[Metrics]) -> Result<()> {
        let name = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        let chart = Curve::of_run(name, metrics).chart();
        let [svg_path, png_path] = self.folder.curves();
        write(&svg_path, svg::element(&chart).as_bytes())?;
        write(&png_path, &png::encode(&chart).map_err(|error| Error::io(&png_path, error))?)
    }
}

impl Start {
    /// Writes the model as it is now to a new folder: a master in bfloat16 with config, tokenizer and chat template; or the
    /// adapter, where that is what is trained.
    ///
    /// Errors: those of [`convert`] and of the system; nothing is left then.
    pub fn write(&self, path: &Path, pool: &bitnet_core::ThreadPool) -> Result<()> {
        if let Some(adaptation) = &self.adaptation {
            return self.write_adapter(path, adaptation);
        }
        let options = ConvertOptions::new(Target::Hf(HfForm::Master));
        convert(&self.checkpoint()?, path, &options, pool, &mut |_, _| ControlFlow::Continue(()))?;
        Ok(())
    }

    /// The model as it is now, in memory.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint> {
        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
        for parameter in self.decoder.parameters() {
            tensors.insert(parameter.name().to_owned(), parameter.variable().value().to_dtype(DType::BF16)?);
        }
        Ok(Checkpoint::from_memory(&self.name, self.files.clone(), tensors))
    }
}

/// Removes a folder that may be there.
pub(super) fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        atomic_folder::remove(folder)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let fill = |file: &mut dyn Write| {
        file.write_all(bytes).map_err(|error| bitnet_inference::Error::io(path, error))
    };
    Ok(atomic_file::write(path, fill)?)
}
