//! What the numbers of a model say for themselves.

use serde::Serialize;

use super::{Status, Verification};
use crate::model::{Block, Model};

/// The codes and the scale of a ternary matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorStatistics {
    /// Hugging Face name of the linear.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Share of codes -1.
    pub minus: f64,
    /// Share of codes 0.
    pub zero: f64,
    /// Share of codes +1.
    pub plus: f64,
    /// What a code of 1 stands for.
    pub scale: f32,
}

/// Zeros of matrices that absmean made: a third to a half of weights that are normally distributed, fewer of others.
const USUAL_ZEROS: std::ops::RangeInclusive<f64> = 0.1..=0.75;

/// The largest share that may lie between -1 and +1 in a usual matrix.
const USUAL_IMBALANCE: f64 = 0.1;

pub(super) fn check(found: &mut Verification, model: &Model) {
    found.tensors = model
        .ternary_linears()
        .map(|(name, linear)| {
            let matrix = linear.weight();
            let mut counts = [0_usize; 3];
            for row in 0..matrix.rows() {
                matrix.row_codes(row).for_each(|code| counts[(code + 1) as usize] += 1);
            }
            let [minus, zero, plus] =
                counts.map(|count| count as f64 / (matrix.rows() * matrix.cols()) as f64);
            let (rows, cols, scale) = (matrix.rows(), matrix.cols(), matrix.scales().values()[0]);
            TensorStatistics { name, rows, cols, minus, zero, plus, scale }
        })
        .collect();
    codes(found);
    scales(found);
    norms(found, model);
}

fn codes(found: &mut Verification) {
    let tensors = &found.tensors;
    let by = |value: fn(&TensorStatistics) -> f64| {
        let order = |a: &&TensorStatistics, b: &&TensorStatistics| value(a).total_cmp(&value(b));
        tensors.iter().min_by(order).zip(tensors.iter().max_by(order))
    };
    let Some(((least, most), (_, lopsided))) = by(|t| t.zero).zip(by(|t| (t.plus - t.minus).abs())) else {
        return found.add("codes", Status::Fail, "no matrix is ternary");
    };
    let fact = format!(
        "{:.1} % zeros in {} to {:.1} % in {}",
        100.0 * least.zero,
        least.name,
        100.0 * most.zero,
        most.name
    );
    let balance = (lopsided.plus - lopsided.minus).abs();
    let status = if most.zero == 1.0 {
        Status::Fail
    } else if USUAL_ZEROS.contains(&least.zero)
        && USUAL_ZEROS.contains(&most.zero)
        && balance < USUAL_IMBALANCE
    {
        Status::Ok
    } else {
        Status::Warning
    };
    let fact = if balance < USUAL_IMBALANCE {
        fact
    } else {
        format!(
            "{fact}; {} has {:.1} % of -1 and {:.1} % of +1",
            lopsided.name,
            100.0 * lopsided.minus,
            100.0 * lopsided.plus
        )
    };
    found.add("codes", status, fact);
}

fn scales(found: &mut Verification) {
    let order = |a: &&TensorStatistics, b: &&TensorStatistics| a.scale.total_cmp(&b.scale);
    let Some((least, most)) = found.tensors.iter().min_by(order).zip(found.tensors.iter().max_by(order))
    else {
        return;
    };
    let fact = format!("{} in {} to {} in {}", least.scale, least.name, most.scale, most.name);
    // Those of one model lie within a factor of ten or so.
    let status = if most.scale / least.scale < 1000.0 { Status::Ok } else { Status::Warning };
    found.add("scales", status, fact);
}

fn norms(found: &mut Verification, model: &Model) {
    let all = model.blocks.iter().flat_map(Block::norms).chain([&model.norm]);
    let (mut zeros, mut count) = (0, 0);
    let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
    for norm in all {
        count += 1;
        zeros += usize::from(norm.iter().all(|weight| *weight == 0.0));
        least = norm.iter().copied().fold(least, f32::min);
        most = norm.iter().copied().fold(most, f32::max);
    }
    let fact = format!("{count}, weights from {least} to {most}");
    match zeros {
        0 => found.add("norms", Status::Ok, fact),
        zeros => found.add("norms", Status::Fail, format!("{fact}; {zeros} of them are zero throughout")),
    }
}
