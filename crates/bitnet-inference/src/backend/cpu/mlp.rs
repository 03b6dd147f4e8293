//! The feed-forward half of a block: dense for many tokens, and for few tokens of a ReLU^2 network only what matters.
//!
//! With `h_n = relu(g_n)^2 u_n`, a neuron whose gate `g_n` is not positive is exactly 0: its row of `up` is not read. In
//! front of `down` the neurons become int8; a 0 there adds nothing, and its column of `down` is not read. The result is
//! the dense one, bit for bit.

use std::ops::Range;

use bitnet_core::DisjointSlice;
use bitnet_quant::{PackedLinear, Product, QuantizedToken, Then};

use super::compute::{Compute, Input};
use super::prepared::{Base, PreparedLinear};
use super::scratch::Scratch;
use crate::Result;
use crate::activation::Activation;
use crate::backend::Traffic;
use crate::config::ModelConfig;
use crate::model::Mlp;

/// Up to how many tokens each has the neurons that matter to it: about where unpacking all weights once for all tokens
/// takes as long (see docs/performance.md).
const FEW_TOKENS: usize = 8;

/// `hidden += post_norm(down(sub_norm(act(gate(n)) * up(n))))`, `n = norm(hidden)`, for the first
/// `tokens` of the scratch buffer.
pub(super) fn mlp(
    compute: &Compute,
    config: &ModelConfig,
    part: &Mlp<PreparedLinear>,
    s: &mut Scratch,
    tokens: usize,
    traffic: &mut Traffic,
    observe: &mut dyn FnMut(Range<usize>, &[f32]),
) -> Result<()> {
    match part.sparse() {
        Some(linears) if tokens <= FEW_TOKENS => sparse(compute, config, part, linears, s, tokens, traffic)?,
        _ => dense(compute, config, part, s, tokens, traffic, observe)?,
    }
    let width = tokens * config.hidden_size;
    let Scratch { hidden, added, normed, .. } = s;
    let (norm, eps) = (part.post_norm.as_deref(), config.rms_norm_eps);
    compute.add_normed(&mut hidden[..width], &added[..width], norm, eps, normed);
    Ok(())
}

fn dense(
    compute: &Compute,
    config: &ModelConfig,
    part: &Mlp<PreparedLinear>,
    s: &mut Scratch,
    tokens: usize,
    traffic: &mut Traffic,
    observe: &mut dyn FnMut(Range<usize>, &[f32]),
) -> Result<()> {
    let (width, inner) = (tokens * config.hidden_size, tokens * config.intermediate_size);
    let Scratch { hidden, normed, quantized, gate, up, added, .. } = s;
    let (gate, up) = (&mut gate[..inner], &mut up[..inner]);
    let eps = config.rms_norm_eps;
    let input = Input { x: &hidden[..width], norm: Some(&part.norm), eps };
    match &part.up.base {
        Base::Ternary(up)
            if config.activation == Activation::Relu2 && part.gate.is_plain() && part.up.is_plain() =>
        {
            compute.linears(input, normed, quantized, [(&part.gate, &mut *gate)])?;
            let product = Product { w: up.weight(), bias: up.bias(), out: gate, then: Then::Relu2Gate };
            compute.ternary.products(&compute.pool, quantized, [product])?;
        }
        _ => {
            let outputs = [(&part.gate, &mut *gate), (&part.up, &mut *up)];
            if let Some(x) = compute.linears(input, normed, quantized, outputs)? {
                observe(4..6, x);
            }
            compute.gate(config.activation, gate, up);
        }
    }
    let input = Input { x: gate, norm: part.sub_norm.as_deref(), eps };
    if let Some(x) = compute.linears(input, normed, quantized, [(&part.down, &mut added[..width])])? {
        observe(6..7, x);
    }
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
    tokens: usize,
    traffic: &mut Traffic,
) -> Result<()> {
    let Compute { pool, floats, ternary } = compute;
    let Scratch { hidden, normed, quantized, gate, added, chosen, sparse, .. } = s;
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let (hidden, gate) = (&hidden[..tokens * width], &mut gate[..tokens * inner]);
    let eps = config.rms_norm_eps;
    let input = Input { x: hidden, norm: Some(&part.norm), eps };
    compute.linears(input, normed, quantized, [(&part.gate, &mut *gate)])?;
    if up_linear.norm().is_some() || gate_linear.norm().is_some() {
        compute.rms_norm(hidden, &part.norm, eps, &mut normed[..hidden.len()]);
        up_linear.quantize_input(pool, floats, &normed[..hidden.len()], quantized);
    }
    let bytes = |linear: &PackedLinear, units: usize| (units * linear.weight().unit_bytes()) as u64;
    traffic.weight_bytes += part.gate.weight_bytes() as u64;

    chosen.resize(inner, 0);
    for (token, gate) in gate.chunks_exact_mut(inner).enumerate() {
        // A gate that is no number is looked at, so that its neuron says so.
        let active = floats.find_above_zero(gate, chosen);
        multiply_gate(compute, up_linear, quantized.one(token), &chosen[..active], gate)?;
        traffic.neurons += inner as u64;
        traffic.active_neurons += active as u64;
        traffic.weight_bytes += bytes(up_linear, active);
    }
    match &part.sub_norm {
        Some(norm) if down_linear.norm().is_none() => {
            quantized.quantize_normed(pool, floats, gate, norm, eps);
        }
        Some(norm) => {
            compute.rms_norm(gate, norm, eps, &mut normed[..tokens * inner]);
            down_linear.quantize_input(pool, floats, &normed[..tokens * inner], quantized);
        }
        None => down_linear.quantize_input(pool, floats, gate, quantized),
    }
    for (token, added) in added[..tokens * width].chunks_exact_mut(width).enumerate() {
        let columns = floats.find_nonzero(quantized.token(token), chosen);
        let chosen = &chosen[..columns];
        ternary.column_product(pool, down_linear.weight(), quantized.one(token), chosen, sparse, added)?;
        if let Some(bias) = down_linear.bias() {
            floats.add_scaled(added, 1.0, bias);
        }
        traffic.down_columns += columns as u64;
        traffic.weight_bytes += bytes(down_linear, columns);
    }
    Ok(())
}

/// `gate = relu(gate)^2 * up`, where `neurons` are those whose gate is above 0, and only their rows of `up` are read.
#[expect(unsafe_code, reason = "threads write disjoint neurons")]
fn multiply_gate(
    compute: &Compute,
    up: &PackedLinear,
    x: QuantizedToken<'_>,
    neurons: &[u32],
    gate: &mut [f32],
) -> Result<()> {
    if neurons.is_empty() {
        gate.fill(0.0);
        return Ok(());
    }
    let count = gate.len();
    let gate = DisjointSlice::new(gate);
    let neuron = |index: usize| neurons.get(index).map_or(count, |neuron| *neuron as usize);
    compute.ternary.row_product(&compute.pool, up.weight(), x, neurons, |range, products| {
        // A piece of the list has all neurons up to the next piece, those between whose gate is closed as well.
        let first = if range.start == 0 { 0 } else { neuron(range.start) };
        // SAFETY: these ranges of neurons are disjoint, as the list is in order and its pieces are.
        let gate = unsafe { gate.part(first..neuron(range.end)) };
        let neurons = &neurons[range];
        for (product, &neuron) in products.iter_mut().zip(neurons) {
            let gate = gate[neuron as usize - first];
            *product = (*product + up.bias().map_or(-0.0, |bias| bias[neuron as usize])) * (gate * gate);
        }
        gate.fill(0.0);
        for (product, &neuron) in products.iter().zip(neurons) {
            gate[neuron as usize - first] = *product;
        }
    })?;
    Ok(())
}
