//! What a config says of positions: how they turn queries and keys, and which of them a layer sees.

use super::LocalAttention;
use super::raw::{RawConfig, RawRope};
use super::reader::Reader;
use crate::Result;
use crate::architecture::Architecture;
use crate::rope::{Llama3, RopeScaling};

impl Reader<'_> {
    /// Base and scaling of the rotary frequencies, of layers that see all positions.
    pub(super) fn rope(
        &self,
        architecture: &Architecture,
        raw: &RawConfig,
        context_length: usize,
    ) -> Result<(f64, RopeScaling)> {
        let parameters = raw.rope_parameters.as_ref().map(|parameters| match &parameters.full_attention {
            Some(full) => &**full,
            None => parameters,
        });
        let rope = raw.rope_scaling.as_ref().or(parameters);
        let theta = rope.and_then(|rope| rope.rope_theta).or(raw.rope_theta);
        let theta = self.positive("rope_theta", theta.or(Some(architecture.default_rope_theta)))?;
        Ok((theta, self.rope_scaling(rope, context_length)?))
    }

    /// Which layers see neighbouring positions alone, and how.
    pub(super) fn local(
        &self,
        architecture: &Architecture,
        raw: &RawConfig,
        layers: usize,
        context_length: usize,
    ) -> Result<Option<LocalAttention>> {
        let types = raw.layer_types.as_ref().map(|types| self.layer_types(types, layers)).transpose()?;
        let Some(defaults) = &architecture.local else {
            if raw.use_sliding_window == Some(true) || types.into_iter().flatten().any(|is_local| is_local) {
                return Err(self.error(format!("sliding windows are not supported in {}", architecture.name)));
            }
            return Ok(None);
        };
        let pattern =
            self.size("sliding_window_pattern", raw.sliding_window_pattern.or(Some(defaults.pattern)))?;
        let rope =
            raw.rope_parameters.as_ref().and_then(|parameters| parameters.sliding_attention.as_deref());
        let theta = rope.and_then(|rope| rope.rope_theta).or(raw.rope_local_base_freq);
        Ok(Some(LocalAttention {
            listed: types,
            pattern,
            window: self.size("sliding_window", raw.sliding_window.or(Some(defaults.window)))?,
            rope_theta: self.positive("rope_local_base_freq", theta.or(Some(defaults.rope_theta)))?,
            rope_scaling: self.rope_scaling(rope, context_length)?,
        }))
    }

    fn layer_types(&self, types: &[String], layers: usize) -> Result<Vec<bool>> {
        if types.len() != layers {
            let reason = format!("layer_types has {} entries for {layers} layers", types.len());
            return Err(self.error(reason));
        }
        types
            .iter()
            .map(|kind| match kind.as_str() {
                "sliding_attention" => Ok(true),
                "full_attention" => Ok(false),
                other => Err(self.error(format!(
                    "layer_types: {other:?} is unknown; known: full_attention, sliding_attention"
                ))),
            })
            .collect()
    }

    /// What would change the attention, and is not computed.
    pub(super) fn refuse_unknown_attention(&self, raw: &RawConfig) -> Result<()> {
        let caps = [
            ("attn_logit_softcapping", raw.attn_logit_softcapping.is_some()),
            ("final_logit_softcapping", raw.final_logit_softcapping.is_some()),
            ("use_bidirectional_attention", raw.use_bidirectional_attention == Some(true)),
        ];
        match caps.into_iter().find(|(_, is_asked)| *is_asked) {
            Some((name, _)) => Err(self.error(format!("{name} is not supported"))),
            None => Ok(()),
        }
    }

    fn rope_scaling(&self, rope: Option<&RawRope>, context_length: usize) -> Result<RopeScaling> {
        let Some(raw) = rope else { return Ok(RopeScaling::None) };
        match raw.rope_type.as_deref().or(raw.r#type.as_deref()) {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => {
                Ok(RopeScaling::Linear { factor: self.positive("rope_scaling.factor", raw.factor)? })
            }
            Some("llama3") => self.llama3(raw, context_length),
            Some(other) => Err(self.error(format!(
                "rope_scaling of type {other:?} is not supported; known: default, linear, llama3"
            ))),
        }
    }

    fn llama3(&self, raw: &RawRope, context_length: usize) -> Result<RopeScaling> {
        let low = self.positive("rope_scaling.low_freq_factor", raw.low_freq_factor)?;
        let high = self.positive("rope_scaling.high_freq_factor", raw.high_freq_factor)?;
        if high <= low {
            return Err(self
                .error(format!("rope_scaling: high_freq_factor {high} is not above low_freq_factor {low}")));
        }
        let original = raw.original_max_position_embeddings.or(Some(context_length as f64));
        Ok(RopeScaling::Llama3(Llama3 {
            factor: self.positive("rope_scaling.factor", raw.factor)?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context: self.positive("rope_scaling.original_max_position_embeddings", original)?,
        }))
    }
}
