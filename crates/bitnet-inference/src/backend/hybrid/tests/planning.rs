//! Plans beside all plans there are.

use super::*;

fn cost() -> impl Strategy<Value = DeviceCost> {
    (0..40_usize, 1..9_u32, 0..9_u32, 1..5_usize, 0..4_usize, 0..4_usize, 0..4_usize).prop_map(
        |(memory, layer, head, layer_bytes, embedding_bytes, head_bytes, shared)| DeviceCost {
            memory,
            layer_s: f64::from(layer),
            head_s: f64::from(head),
            layer_bytes,
            embedding_bytes,
            head_bytes,
            ends_bytes: embedding_bytes + head_bytes - shared.min(embedding_bytes).min(head_bytes),
        },
    )
}

/// Bytes that each part of a plan takes, beside those its device has.
fn fits(parts: &[(usize, usize)], costs: &[DeviceCost]) -> bool {
    parts.iter().enumerate().all(|(index, &(device, layers))| {
        let cost = &costs[device];
        let ends = match (index == 0, index + 1 == parts.len()) {
            (true, true) => cost.ends_bytes,
            (true, false) => cost.embedding_bytes,
            (false, true) => cost.head_bytes,
            (false, false) => 0,
        };
        layers * cost.layer_bytes + ends <= cost.memory
    })
}

/// The least time of all ways to give `layers` to devices behind those in `parts`.
fn least(layers: usize, costs: &[DeviceCost], parts: &mut Vec<(usize, usize)>) -> Option<f64> {
    if layers == 0 {
        let (last, _) = *parts.last()?;
        let layers_s: f64 = parts.iter().map(|&(device, count)| count as f64 * costs[device].layer_s).sum();
        return fits(parts, costs).then_some(layers_s + costs[last].head_s);
    }
    let mut best: Option<f64> = None;
    for device in 0..costs.len() {
        if parts.iter().any(|(used, _)| *used == device) {
            continue;
        }
        for count in 1..=layers {
            parts.push((device, count));
            if let Some(time) = least(layers - count, costs, parts) {
                best = Some(best.map_or(time, |best| best.min(time)));
            }
            parts.pop();
        }
    }
    best
}

proptest! {
    #[test]
    fn a_plan_is_as_fast_as_the_best_of_all(layers in 1..6_usize, costs in prop::collection::vec(cost(), 1..4)) {
        let best = least(layers, &costs, &mut Vec::new());
        match Plan::fastest(layers, &costs) {
            Ok(plan) => {
                prop_assert_eq!(Some(plan.token_s), best);
                let counts: Vec<(usize, usize)> =
                    plan.parts.iter().map(|part| (part.device, part.layers.len())).collect();
                prop_assert!(fits(&counts, &costs), "{:?}", plan);
                prop_assert_eq!(plan.parts.last().map(|part| part.layers.end), Some(layers));
            }
            Err(error) => prop_assert!(best.is_none(), "{error}, but {best:?}"),
        }
    }
}

#[test]
fn a_measured_plan_keeps_within_memory_and_runs() {
    let model = model();
    let whole = MODEL.backend().weight_bytes() + MODEL.backend().page_bytes(KvType::F32);
    // Neither has room for all of it, both together have.
    let devices = [true, false].map(|is_best| {
        let (pool, options) = cpu(is_best);
        HybridDevice::cpu(whole * 9 / 10, pool, options)
    });
    let plan = HybridBackend::plan(&model, &devices, 1, KvType::F32).unwrap();
    assert_eq!(plan.parts.len(), 2, "{plan:?}");
    assert!(plan.token_s > 0.0);
    let hybrid = HybridBackend::with_plan(model, &devices, &plan).unwrap();
    for part in hybrid.parts() {
        let bytes = part.backend.weight_bytes() + part.backend.page_bytes(KvType::F32);
        assert!(bytes <= whole * 9 / 10, "{bytes} of {}", whole * 9 / 10);
    }
    assert_eq!(generate(Arc::new(hybrid)), generate(MODEL.shared_backend()));
}

#[test]
fn devices_without_room_are_an_error() {
    let (pool, options) = cpu(false);
    let error = HybridBackend::plan(&model(), &[HybridDevice::cpu(1000, pool, options)], 1, KvType::F32);
    assert_eq!(error.unwrap_err().to_string(), "hybrid: 1 devices have no room for 4 layers");
}
