//! Errors of single linears, and the precision that each needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitnet_core::{FloatKernels, Isa, ThreadPool};
use bitnet_quant::{
    ErrorMetrics, LayerErrors, Precision, Recommendation, Threshold, output_error, recommend,
};
use serde::Serialize;

use super::calibration::Calibration;
use super::serialize;
use crate::model::{HEAD, Linear, Model};
use crate::{Checkpoint, Error, Result};

/// One linear: the errors of its outputs on the sampled tokens.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// Hugging Face name.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// The place of what it multiplies in the inputs of the report.
    pub input: usize,
    /// Bits of a weight as it is stored.
    pub stored_bits: f64,
    /// The fewest bits that reach the least signal to noise; [`Precision::Float`] when none do.
    #[serde(serialize_with = "serialize::name")]
    pub recommended: Precision,
    /// With the weights of the quantized model, where these came from a checkpoint of their own.
    #[serde(serialize_with = "serialize::optional_metrics", skip_serializing_if = "Option::is_none")]
    pub quantized: Option<ErrorMetrics>,
    /// At each precision, in the order they were asked for.
    #[serde(serialize_with = "serialize::errors")]
    pub errors: Vec<(Precision, ErrorMetrics)>,
}

impl Layer {
    /// What ranks it: the signal to noise of the quantized model, else of the first precision, dB.
    pub fn sqnr_db(&self) -> f64 {
        let first = self.quantized.or_else(|| self.errors.first().map(|(_, error)| *error));
        first.map_or(f64::INFINITY, |error| error.sqnr_db)
    }

    /// Bits of a weight at the precision recommended.
    pub fn recommended_bits(&self) -> f64 {
        if self.recommended == Precision::Float { self.stored_bits } else { self.recommended.bits() }
    }
}

/// Names of the linears of blocks that are ternary.
pub(super) fn measured(quantized: &Model) -> BTreeSet<String> {
    quantized.ternary_linears().map(|(name, _)| name).filter(|name| name != HEAD).collect()
}

/// What measuring a linear needs.
pub(super) struct Meter<'a> {
    /// The source of the floats, for messages.
    pub(super) checkpoint: &'a Checkpoint,
    /// The quantized model, where its weights are to be measured as well.
    pub(super) quantized: Option<&'a Model>,
    pub(super) calibration: &'a Calibration,
    pub(super) precisions: &'a [Precision],
    pub(super) pool: &'a Arc<ThreadPool>,
}

impl Meter<'_> {
    /// Of a linear of the float model; what it recommends is still open.
    pub(super) fn measure(&self, name: &str, linear: &Linear) -> Result<Layer> {
        let Linear::Float(linear) = linear else { unreachable!("all linears of the float model are floats") };
        let weight = &linear.weight;
        let (rows, cols) = (weight.rows(), weight.cols());
        let mut w = vec![0.0; rows * cols];
        for (row, out) in w.chunks_exact_mut(cols).enumerate() {
            weight.read_row(row, out);
        }
        weight.release_rows(0..rows);
        let (input, x) = self.calibration.sample(name).expect("every linear was shown its input");
        let floats = FloatKernels::new(Isa::selected()?)?;
        let measured = LayerErrors::measure(self.pool, &floats, name, (&w, cols), Some(x), self.precisions)
            .map_err(|error| {
            let tensor = format!("{name}.weight");
            let stored = self.checkpoint.stored_name(&tensor);
            Error::checkpoint(self.checkpoint.tensor_path(&tensor), format!("tensor {stored}: {error}"))
        })?;
        let ours = self.quantized.and_then(|model| model.ternary_linears().find(|(ours, _)| ours == name));
        let quantized = ours
            .map(|(_, linear)| output_error(self.pool, &floats, &w, &linear.weight().dequantize(), x, cols));
        Ok(Layer {
            name: measured.name,
            rows,
            cols,
            input,
            stored_bits: 8.0 * weight.size_bytes() as f64 / (rows * cols) as f64,
            recommended: Precision::Float,
            quantized,
            errors: measured.errors,
        })
    }
}

/// The linears with what is recommended for them, the most sensitive first.
pub(super) fn ranked(mut layers: Vec<Layer>, threshold: &Threshold) -> Vec<Layer> {
    let errors = |layer: &Layer| LayerErrors { name: layer.name.clone(), errors: layer.errors.clone() };
    let errors: Vec<LayerErrors> = layers.iter().map(errors).collect();
    let picked = recommend(&errors, threshold);
    for layer in &mut layers {
        let of = |picked: &&Recommendation| picked.layer.name == layer.name;
        layer.recommended = picked.iter().find(of).map_or(Precision::Float, |picked| picked.precision);
    }
    layers.sort_by(|a, b| a.sqnr_db().total_cmp(&b.sqnr_db()));
    layers
}

/// Mean over all weights of the bits recommended.
pub(super) fn mean_bits(layers: &[Layer]) -> f64 {
    let weights = |layer: &Layer| (layer.rows * layer.cols) as f64;
    let bits: f64 = layers.iter().map(|layer| layer.recommended_bits() * weights(layer)).sum();
    bits / layers.iter().map(weights).sum::<f64>()
}
