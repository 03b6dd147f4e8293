//! The forward pass of a chunk of tokens.

use bitnet_core::DisjointSlice;
use bitnet_quant::QuantizedActivations;

use super::attention::attention;
use super::scratch::Scratch;
use super::{Compute, CpuSequence};
use crate::Result;
use crate::activation::Activation;
use crate::model::{Attention, Block, FloatLinear, Linear, Mlp};

impl CpuSequence {
    /// Runs all blocks over `ids` and appends them to the cache; the residual stream stays in the scratch buffers.
    /// `observe(layer, hidden)` sees the stream in front of every block.
    pub(super) fn forward(&mut self, ids: &[u32], observe: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let hidden_size = self.model.config.hidden_size;
        for (&id, out) in ids.iter().zip(self.scratch.hidden.chunks_exact_mut(hidden_size)) {
            self.model.embedding.read_row(id as usize, out);
        }
        let model = std::sync::Arc::clone(&self.model);
        for (layer, block) in model.blocks.iter().enumerate() {
            observe(layer, &self.scratch.hidden[..ids.len() * hidden_size]);
            self.attention_half(layer, &block.attention, ids.len())?;
            self.mlp_half(&block.mlp, ids.len())?;
        }
        self.cache.advance(ids.len());
        let embedding = &model.embedding;
        let row_bytes = embedding.size_bytes() / embedding.rows();
        let block_bytes: usize = model.blocks.iter().flat_map(Block::linears).map(Linear::weight_bytes).sum();
        self.traffic.weight_bytes += (block_bytes + ids.len() * row_bytes) as u64;
        Ok(())
    }

    /// `hidden += o(sub_norm(attention(norm(hidden))))`.
    fn attention_half(&mut self, layer: usize, part: &Attention, tokens: usize) -> Result<()> {
        let config = &self.model.config;
        let s = &mut self.scratch;
        let compute = &self.compute;
        let hidden = &s.hidden[..tokens * config.hidden_size];
        let normed = &mut s.normed[..hidden.len()];
        let (q_width, kv_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let q = &mut s.q[..tokens * q_width];
        let k = &mut s.k[..tokens * kv_width];
        let v = &mut s.v[..tokens * kv_width];
        compute.rms_norm(hidden, &part.norm, config.rms_norm_eps, normed);
        let outputs = [(&part.q, &mut *q), (&part.k, &mut *k), (&part.v, &mut *v)];
        compute.linears(normed, &mut s.linear_normed, &mut s.quantized, outputs)?;
        let position = self.cache.len();
        for token in 0..tokens {
            let at = position + token;
            let rotate = |head: &mut [f32]| self.rope.rotate(at, head);
            q[token * q_width..(token + 1) * q_width].chunks_exact_mut(config.head_dim).for_each(rotate);
            let k = &mut k[token * kv_width..(token + 1) * kv_width];
            k.chunks_exact_mut(config.head_dim).for_each(rotate);
            self.cache.write(layer, at, k, &v[token * kv_width..(token + 1) * kv_width]);
        }
        let attended = &mut s.attended[..q.len()];
        attention(compute, config, &self.cache, layer, position, q, attended);
        let input = match &part.sub_norm {
            Some(weight) => {
                let normed = &mut s.normed[..attended.len()];
                compute.rms_norm(attended, weight, config.rms_norm_eps, normed);
                &*normed
            }
            None => &*attended,
        };
        let added = &mut s.added[..tokens * config.hidden_size];
        compute.linears(input, &mut s.linear_normed, &mut s.quantized, [(&part.o, &mut *added)])?;
        compute.floats.add_scaled(&mut s.hidden[..added.len()], 1.0, added);
        Ok(())
    }

    /// `hidden += down(sub_norm(act(gate(n)) * up(n)))`, `n = norm(hidden)`.
    fn mlp_half(&mut self, part: &Mlp, tokens: usize) -> Result<()> {
        let config = &self.model.config;
        let s = &mut self.scratch;
        let compute = &self.compute;
        let hidden = &s.hidden[..tokens * config.hidden_size];
        let normed = &mut s.normed[..hidden.len()];
        let gate = &mut s.gate[..tokens * config.intermediate_size];
        let up = &mut s.up[..gate.len()];
        compute.rms_norm(hidden, &part.norm, config.rms_norm_eps, normed);
        let outputs = [(&part.gate, &mut *gate), (&part.up, &mut *up)];
        compute.linears(normed, &mut s.linear_normed, &mut s.quantized, outputs)?;
        compute.gate(config.activation, gate, up);
        let input = match &part.sub_norm {
            Some(weight) => {
                let normed = &mut s.normed[..gate.len()];
                compute.rms_norm(gate, weight, config.rms_norm_eps, normed);
                &*normed
            }
            None => &*gate,
        };
        let added = &mut s.added[..tokens * config.hidden_size];
        compute.linears(input, &mut s.linear_normed, &mut s.quantized, [(&part.down, &mut *added)])?;
        compute.floats.add_scaled(&mut s.hidden[..added.len()], 1.0, added);
        Ok(())
    }

    /// Computes the logits of the last `count` tokens that were fed.
    pub(super) fn head(&mut self, count: usize) -> Result<()> {
        assert!(count <= self.fed, "logits of tokens that were fed");
        let config = &self.model.config;
        let Scratch { hidden, normed, linear_normed, quantized, logits, .. } = &mut self.scratch;
        let hidden = &hidden[(self.fed - count) * config.hidden_size..self.fed * config.hidden_size];
        let normed = &mut normed[..hidden.len()];
        self.compute.rms_norm(hidden, &self.model.norm, config.rms_norm_eps, normed);
        let needed = count * config.vocab_size;
        if logits.len() < needed {
            logits.resize(needed, 0.0);
        }
        let logits = &mut logits[..needed];
        match &self.model.head {
            Some(head) => self.compute.linears(normed, linear_normed, quantized, [(head, &mut *logits)])?,
            None => self.model.embedding.matmul(&self.compute.pool, &self.compute.floats, normed, logits),
        }
        self.traffic.weight_bytes += match &self.model.head {
            Some(head) => head.weight_bytes(),
            None => self.model.embedding.size_bytes(),
        } as u64;
        Ok(())
    }
}

impl Compute {
    /// RMSNorm of every token.
    #[expect(unsafe_code, reason = "threads write disjoint tokens")]
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        let out = DisjointSlice::new(out);
        self.pool.split(x.len() / width, 4, |tokens| {
            for token in tokens {
                let at = token * width..(token + 1) * width;
                // SAFETY: each token belongs to one thread.
                self.floats.rms_norm(&x[at.clone()], weight, eps, unsafe { out.part(at) });
            }
        });
    }

    /// `gate = act(gate) * up`.
    #[expect(unsafe_code, reason = "threads write disjoint elements")]
    fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        let len = gate.len();
        let gate = DisjointSlice::new(gate);
        self.pool.split(len, 4096, |range| {
            // SAFETY: ranges of a split are disjoint.
            let gate = unsafe { gate.part(range.clone()) };
            let up = &up[range];
            let scalar = |gate: &mut [f32], act: fn(f32) -> f32| {
                gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = act(*gate) * up);
            };
            match activation {
                Activation::Relu2 => self.floats.relu_squared_gate(gate, up),
                Activation::Silu => scalar(gate, |x| x / (1.0 + (-x).exp())),
                Activation::Gelu => {
                    scalar(gate, |x| x * 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)));
                }
            }
        });
    }

    /// Several linears of one input. Those without a norm of their own share its quantization.
    fn linears<const N: usize>(
        &self,
        x: &[f32],
        normed: &mut [f32],
        quantized: &mut QuantizedActivations,
        outputs: [(&Linear, &mut [f32]); N],
    ) -> Result<()> {
        let mut is_shared = false;
        for (linear, out) in outputs {
            match linear {
                Linear::Float(linear) => self.float_linear(linear, x, out),
                Linear::Ternary(linear) => {
                    if !is_shared || linear.norm().is_some() {
                        linear.quantize_input(&self.pool, &self.floats, x, normed, quantized);
                    }
                    is_shared = linear.norm().is_none();
                    linear.forward(&self.pool, &self.ternary, quantized, out)?;
                }
            }
        }
        Ok(())
    }

    fn float_linear(&self, linear: &FloatLinear, x: &[f32], out: &mut [f32]) {
        linear.weight.matmul(&self.pool, &self.floats, x, out);
        if let Some(bias) = &linear.bias {
            for out in out.chunks_exact_mut(bias.len()) {
                self.floats.add_scaled(out, 1.0, bias);
            }
        }
    }
}
