//! Two checkpoints of what should be one model.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_quant::BitLinear;

use super::reading::{ids, visit_logits};
use super::{Status, Verification};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::{Checkpoint, Result};

/// Share of positions that must have the same most probable token.
const AGREEMENT: f64 = 0.98;

/// Mean difference of logits that float16 for bfloat16 in the embedding explains.
const ROUNDING: f64 = 1e-3;

pub(super) fn check(
    found: &mut Verification,
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    other: &Checkpoint,
    pool: &Arc<ThreadPool>,
) -> Result<()> {
    let reference = Model::load(other, pool)?;
    ternary(found, model, &reference);
    let Some(tokenizer) = tokenizer else { return Ok(()) };
    let ids = ids(model, tokenizer)?;
    if let Some(theirs) = Tokenizer::read(other)? {
        let same = self::ids(&reference, &theirs)? == ids;
        let (status, fact) =
            if same { (Status::Ok, "the same") } else { (Status::Fail, "others for one text") };
        found.add("against: token ids", status, fact);
    }
    if model.config.vocab_size != reference.config.vocab_size {
        let (ours, theirs) = (model.config.vocab_size, reference.config.vocab_size);
        found.add("against: logits", Status::Fail, format!("{ours} of them, against {theirs}"));
        return Ok(());
    }
    logits(found, model, reference, &ids, pool)
}

/// Codes and scales, matrix by matrix.
fn ternary(found: &mut Verification, model: &Model, reference: &Model) {
    let theirs: BTreeMap<String, &BitLinear> = reference.ternary_linears().collect();
    let (mut count, mut matrices, mut other_codes, mut other_scales) = (0, 0, Vec::new(), Vec::new());
    for (name, ours) in model.ternary_linears() {
        count += 1;
        let Some(theirs) = theirs.get(&name) else { continue };
        matrices += 1;
        let (ours, theirs) = (ours.weight(), theirs.weight());
        let has_same_shape = ours.rows() == theirs.rows() && ours.cols() == theirs.cols();
        if !has_same_shape || !(0..ours.rows()).all(|row| ours.row_codes(row).eq(theirs.row_codes(row))) {
            other_codes.push(name.clone());
        }
        if ours.scales() != theirs.scales() {
            let pairs = || ours.scales().values().iter().zip(theirs.scales().values());
            // The same scales for other parts of the matrix: any pair says so.
            let (a, b) = pairs().find(|(a, b)| a != b).or(pairs().next()).unwrap_or((&f32::NAN, &f32::NAN));
            other_scales.push((name, *a, *b));
        }
    }
    if matrices != count || matrices != theirs.len() {
        let fact = format!("{count} ternary matrices, {} in the other, {matrices} in both", theirs.len());
        found.add("against: matrices", Status::Fail, fact);
    }
    match &other_codes[..] {
        [] => found.add("against: codes", Status::Ok, format!("the same in all {matrices} matrices")),
        [first, ..] => {
            let fact = format!("others in {} of {matrices} matrices, {first} the first", other_codes.len());
            found.add("against: codes", Status::Fail, fact);
        }
    }
    let difference = |(_, a, b): &(String, f32, f32)| (a / b - 1.0).abs();
    let worst = other_scales.iter().max_by(|a, b| difference(a).total_cmp(&difference(b)));
    match worst {
        None => found.add("against: scales", Status::Ok, format!("the same in all {matrices} matrices")),
        Some(worst @ (name, a, b)) => {
            // What rounding to bfloat16 does.
            let status = if difference(worst) <= 2.0_f32.powi(-8) { Status::Warning } else { Status::Fail };
            let others = other_scales.len();
            let fact = format!("others in {others} of {matrices} matrices: {a} against {b} in {name}");
            found.add("against: scales", status, fact);
        }
    }
}

fn logits(
    found: &mut Verification,
    model: &Model,
    reference: Model,
    ids: &[u32],
    pool: &Arc<ThreadPool>,
) -> Result<()> {
    let mut ours = Vec::new();
    visit_logits(model.clone(), ids, pool, |_, logits| ours.push(logits.to_vec()))?;
    let (mut most, mut sum, mut agreeing) = (0.0_f32, 0.0_f64, 0);
    let top = |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    visit_logits(reference, ids, pool, |position, theirs| {
        let ours = &ours[position];
        for (a, b) in ours.iter().zip(theirs) {
            // Of two that are no numbers, too.
            let difference = if a == b { 0.0 } else { (a - b).abs() };
            most = if difference > most || difference.is_nan() { difference } else { most };
            sum += f64::from(difference);
        }
        agreeing += usize::from(top(ours) == top(theirs));
    })?;
    if most == 0.0 {
        found.add("against: logits", Status::Ok, format!("the same bits behind {} tokens", ids.len()));
        return Ok(());
    }
    let mean = sum / (ids.len() * model.config.vocab_size) as f64;
    let tokens = ids.len();
    let status = if agreeing == tokens && mean < ROUNDING {
        Status::Ok
    } else if agreeing as f64 >= AGREEMENT * tokens as f64 {
        Status::Warning
    } else {
        Status::Fail
    };
    let fact = format!(
        "differ by {most:.1e} at most and {mean:.1e} in the mean; \
         the most probable token is the same behind {agreeing} of {tokens} tokens"
    );
    found.add("against: logits", status, fact);
    Ok(())
}
