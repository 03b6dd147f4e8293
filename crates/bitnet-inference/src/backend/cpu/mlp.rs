//! The feed-forward half of a block: dense for many tokens, and for one token of a ReLU^2 network only what matters.
//!
//! With `h_n = relu(g_n)^2 u_n`, a neuron whose gate `g_n` is not positive is exactly 0: its row of `up` is not read. In
//! front of `down` the neurons become int8; a 0 there adds nothing, and its column of `down` is not read. The result is
//! the dense one, bit for bit.

use bitnet_quant::PackedLinear;

use super::compute::Compute;
use super::prepared::PreparedLinear;
use super::scratch::Scratch;
use crate::Result;
use crate::backend::Traffic;
use crate::config::ModelConfig;
use crate::model::Mlp;

/// `hidden += down(sub_norm(act(gate(n)) * up(n)))`, `n = norm(hidden)`.
pub(super) fn mlp(
    compute: &Compute,
    config: &ModelConfig,
    part: &Mlp<PreparedLinear>,
    s: &mut Scratch,
    tokens: usize,
    traffic: &mut Traffic,
) -> Result<()> {
    let width = tokens * config.hidden_size;
    compute.rms_norm(&s.hidden[..width], &part.norm, config.rms_norm_eps, &mut s.normed[..width]);
    match part.sparse() {
        Some(linears) if tokens == 1 => sparse(compute, config, part, linears, s, traffic)?,
        _ => dense(compute, config, part, s, tokens, traffic)?,
    }
    compute.add(&mut s.hidden[..width], &s.added[..width]);
    Ok(())
}

fn dense(
    compute: &Compute,
    config: &ModelConfig,
    part: &Mlp<PreparedLinear>,
    s: &mut Scratch,
    tokens: usize,
    traffic: &mut Traffic,
) -> Result<()> {
    let (hidden, inner) = (tokens * config.hidden_size, tokens * config.intermediate_size);
    let Scratch { normed, linear_normed, quantized, gate, up, added, .. } = s;
    let (gate, up) = (&mut gate[..inner], &mut up[..inner]);
    let outputs = [(&part.gate, &mut *gate), (&part.up, &mut *up)];
    compute.linears(&normed[..hidden], linear_normed, quantized, outputs)?;
    compute.gate(config.activation, gate, up);
    let input = sub_norm(compute, config, part, gate, normed);
    compute.linears(input, linear_normed, quantized, [(&part.down, &mut added[..hidden])])?;
    let linears = [&part.gate, &part.up, &part.down];
    traffic.weight_bytes += linears.map(PreparedLinear::weight_bytes).iter().sum::<usize>() as u64;
    Ok(())
}

fn sparse(
    compute: &Compute,
    config: &ModelConfig,
    part: &Mlp<PreparedLinear>,
    [gate_linear, up_linear, down_linear]: [&PackedLinear; 3],
    s: &mut Scratch,
    traffic: &mut Traffic,
) -> Result<()> {
    let Compute { pool, floats, ternary } = compute;
    let Scratch { normed, linear_normed, quantized, gate, up, added, chosen, sparse, .. } = s;
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (gate, added) = (&mut gate[..inner], &mut added[..hidden]);
    compute.linears(&normed[..hidden], linear_normed, quantized, [(&part.gate, &mut *gate)])?;
    if up_linear.norm().is_some() || gate_linear.norm().is_some() {
        up_linear.quantize_input(pool, floats, &normed[..hidden], linear_normed, quantized);
    }

    // A gate that is no number is looked at, so that its neuron says so.
    choose(chosen, gate, |gate| !(*gate <= 0.0));
    let active = chosen.len();
    let up = &mut up[..active];
    ternary.row_product(pool, up_linear.weight(), quantized, chosen, up)?;
    if let Some(bias) = up_linear.bias() {
        up.iter_mut().zip(&*chosen).for_each(|(up, &neuron)| *up += bias[neuron as usize]);
    }
    let mut next = chosen.iter().zip(&*up).peekable();
    for (neuron, gate) in gate.iter_mut().enumerate() {
        *gate = match next.next_if(|(chosen, _)| **chosen as usize == neuron) {
            Some((_, up)) => *gate * *gate * up,
            None => 0.0,
        };
    }

    let input = sub_norm(compute, config, part, gate, normed);
    down_linear.quantize_input(pool, floats, input, linear_normed, quantized);
    choose(chosen, quantized.token(0), |code| *code != 0);
    ternary.column_product(pool, down_linear.weight(), quantized, chosen, sparse, added)?;
    if let Some(bias) = down_linear.bias() {
        floats.add_scaled(added, 1.0, bias);
    }

    let bytes = |linear: &PackedLinear, units: usize| (units * linear.weight().unit_bytes()) as u64;
    traffic.neurons += inner as u64;
    traffic.active_neurons += active as u64;
    traffic.down_columns += chosen.len() as u64;
    traffic.weight_bytes += part.gate.weight_bytes() as u64;
    traffic.weight_bytes += bytes(up_linear, active) + bytes(down_linear, chosen.len());
    Ok(())
}

/// The input of the down projection, `gate` itself or normalised.
fn sub_norm<'a>(
    compute: &Compute,
    config: &ModelConfig,
    part: &Mlp<PreparedLinear>,
    gate: &'a [f32],
    normed: &'a mut [f32],
) -> &'a [f32] {
    let Some(weight) = &part.sub_norm else { return gate };
    let normed = &mut normed[..gate.len()];
    compute.rms_norm(gate, weight, config.rms_norm_eps, normed);
    normed
}

/// Writes the places of the elements that `is_chosen` to `chosen`.
fn choose<T>(chosen: &mut Vec<u32>, elements: &[T], is_chosen: impl Fn(&T) -> bool) {
    chosen.resize(elements.len(), 0);
    let mut count = 0;
    // Without a branch: which way it goes cannot be foreseen.
    for (place, element) in elements.iter().enumerate() {
        chosen[count] = place as u32;
        count += usize::from(is_chosen(element));
    }
    chosen.truncate(count);
}
