//! Which layers go where.
//!
//! A token goes through the devices one after another, so its time is that of each layer on its device, and of the head
//! on the last one: `t = sum_d layers_d * layer_s_d + head_s_last`. Layers cost the same wherever they stand, so what
//! counts is how many each device has, and which ones have the ends. For every first and last device, each of them
//! gets one layer, and the others go to the fastest device as long as it has room, then to the next; of all these the
//! one with the smallest `t` is taken. A device that would make it slower gets nothing.

use std::ops::Range;
use std::sync::Arc;

use super::layers::numbers;
use super::{DeviceCost, HybridBackend, HybridDevice, Part};
use crate::backend::KvType;
use crate::model::Model;
use crate::{Error, Result};

/// Which layers of a model go to which devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order of the layers.
    pub parts: Vec<PlannedPart>,
    /// Seconds of a token, by the costs of the devices.
    pub token_s: f64,
}

/// Layers of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPart {
    /// Which of the devices.
    pub device: usize,
    /// Its layers.
    pub layers: Range<usize>,
}

impl Plan {
    /// The fastest plan for a model of `layers` layers, by the rule of this module.
    ///
    /// Errors: [`Error::Backend`] when the devices have too little memory.
    pub fn fastest(layers: usize, costs: &[DeviceCost]) -> Result<Self> {
        let devices = 0..costs.len();
        let ends = devices.clone().flat_map(|first| devices.clone().map(move |last| (first, last)));
        let plans = ends.filter_map(|(first, last)| Self::between(layers, costs, first, last));
        plans.min_by(|a, b| a.token_s.total_cmp(&b.token_s)).ok_or_else(|| Error::Backend {
            name: "hybrid".to_owned(),
            reason: format!("{} devices have no room for {layers} layers", costs.len()),
        })
    }

    /// The fastest plan whose first and last devices are these.
    fn between(layers: usize, costs: &[DeviceCost], first: usize, last: usize) -> Option<Self> {
        if first == last {
            let room = costs[first].memory.checked_sub(costs[first].ends_bytes)?;
            let fits = room / costs[first].layer_bytes.max(1) >= layers;
            return fits.then(|| Self::new(&[(first, layers)], costs));
        }
        let mut room: Vec<usize> = costs.iter().map(|cost| cost.memory).collect();
        room[first] = room[first].checked_sub(costs[first].embedding_bytes)?;
        room[last] = room[last].checked_sub(costs[last].head_bytes)?;
        let mut counts = vec![0; costs.len()];
        let mut left = layers;
        let mut give = |device: usize, most: usize| {
            let fitting = room[device] / costs[device].layer_bytes.max(1);
            let count = most.min(left).min(fitting - counts[device]);
            counts[device] += count;
            left -= count;
            count
        };
        if give(first, 1) == 0 || give(last, 1) == 0 {
            return None;
        }
        let mut fastest: Vec<usize> = (0..costs.len()).collect();
        fastest.sort_by(|a, b| costs[*a].layer_s.total_cmp(&costs[*b].layer_s));
        for device in &fastest {
            give(*device, layers);
        }
        if left > 0 {
            return None;
        }
        let between = fastest.into_iter().filter(|device| ![first, last].contains(device));
        let order = [first].into_iter().chain(between).chain([last]);
        let parts: Vec<(usize, usize)> =
            order.map(|device| (device, counts[device])).filter(|(_, count)| *count > 0).collect();
        Some(Self::new(&parts, costs))
    }

    /// A plan of so many layers of each of these devices.
    fn new(counts: &[(usize, usize)], costs: &[DeviceCost]) -> Self {
        let mut first = 0;
        let part = |&(device, count): &(usize, usize)| {
            let layers = first..first + count;
            first = layers.end;
            PlannedPart { device, layers }
        };
        let parts: Vec<PlannedPart> = counts.iter().map(part).collect();
        let layers_s: f64 = counts.iter().map(|&(device, count)| count as f64 * costs[device].layer_s).sum();
        let head_s = parts.last().map_or(0.0, |part| costs[part.device].head_s);
        Self { parts, token_s: layers_s + head_s }
    }
}

impl HybridBackend {
    /// Measures `devices` with a few layers of `model` each, and plans its layers, with `pages` of keys and values.
    ///
    /// Errors: [`Error::Backend`] when the devices have too little memory; those of the devices.
    pub fn plan(model: &Model, devices: &[HybridDevice], pages: usize, kv_type: KvType) -> Result<Plan> {
        let costs = devices.iter().map(|device| DeviceCost::measure(model, device, pages, kv_type));
        Plan::fastest(model.config.layers, &costs.collect::<Result<Vec<_>>>()?)
    }

    /// Prepares a model on `devices` as `plan` says.
    ///
    /// Errors: [`Error::InvalidOption`] for a plan of another model; those of the devices.
    pub fn with_plan(model: Model, devices: &[HybridDevice], plan: &Plan) -> Result<Self> {
        let ends = plan.parts.last().map(|part| part.layers.end);
        if ends != Some(model.config.layers) {
            let got = plan.parts.iter().map(|part| numbers(&part.layers)).collect::<Vec<_>>().join(", ");
            return Err(Error::InvalidOption { name: "plan", expected: "for all layers of the model", got });
        }
        let cuts: Vec<usize> = plan.parts[1..].iter().map(|part| part.layers.start).collect();
        let parts = model.split(&cuts).into_iter().zip(&plan.parts);
        let parts = parts.map(|(part, planned)| {
            let backend: Arc<_> = devices[planned.device].prepare(part)?;
            Ok(Part { layers: planned.layers.clone(), backend })
        });
        Self::new(parts.collect::<Result<_>>()?)
    }
}
