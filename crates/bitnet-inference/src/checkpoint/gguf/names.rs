//! Names of tensors: GGUF's, and those of Hugging Face that a model is loaded by.
//!
//! Sources: llama.cpp, `gguf-py/gguf/tensor_mapping.py`; microsoft/BitNet,
//! `utils/convert-bitnet-embedding-to-gguf.py` (norms in front of each projection).

use super::GEMMA3;

/// Parts of a block: GGUF's name, and Hugging Face's.
const PARTS: [(&str, &str); 12] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_sub_norm", "self_attn.attn_sub_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_sub_norm", "mlp.ffn_sub_norm"),
    ("ffn_down", "mlp.down_proj"),
];
/// The norm in front of the feed-forward network, which Hugging Face calls by what it follows.
const MLP_NORM: [(&str, &str); 1] = [("ffn_norm", "post_attention_layernorm")];
/// The same where there are norms behind both halves of a block, too.
const GEMMA_NORMS: [(&str, &str); 3] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];
/// What stands behind the name of a projection in that of the norm in front of it.
const OWN_NORM: (&str, &str) = ("_norm_in", ".norm");

/// What stands outside the blocks.
const OTHERS: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The names that an architecture has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    norms: &'static [(&'static str, &'static str)],
}

impl Names {
    /// Those of the architecture that GGUF calls so.
    pub(super) fn of(architecture: &str) -> Self {
        Self { norms: if architecture == GEMMA3 { &GEMMA_NORMS } else { &MLP_NORM } }
    }

    fn parts(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        PARTS.iter().chain(self.norms)
    }

    /// The Hugging Face name of a tensor of a GGUF file, if it has one.
    pub(super) fn to_hugging_face(self, name: &str) -> Option<String> {
        if let Some((_, theirs)) = OTHERS.iter().find(|(ours, _)| *ours == name) {
            return Some((*theirs).to_owned());
        }
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let (part, kind) = rest.split_once('.')?;
        // "blk.00" and "blk.0" would be one.
        let layer: usize = layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?;
        let (part, own_norm) = match part.strip_suffix(OWN_NORM.0) {
            Some(linear) => (linear, OWN_NORM.1),
            None => (part, ""),
        };
        let (_, theirs) = self.parts().find(|(ours, _)| *ours == part)?;
        let has_own_norm = theirs.ends_with("_proj") || own_norm.is_empty();
        (matches!(kind, "weight" | "bias") && has_own_norm)
            .then(|| format!("model.layers.{layer}.{theirs}{own_norm}.{kind}"))
    }

    /// The GGUF name of a tensor by its Hugging Face name, if it has one.
    pub(super) fn to_gguf(self, name: &str) -> Option<String> {
        if let Some((ours, _)) = OTHERS.iter().find(|(_, theirs)| *theirs == name) {
            return Some((*ours).to_owned());
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (part, own_norm) = match part.strip_suffix(OWN_NORM.1) {
            Some(linear) => (linear, OWN_NORM.0),
            None => (part, ""),
        };
        let (ours, _) = self.parts().find(|(_, theirs)| *theirs == part)?;
        Some(format!("blk.{layer}.{ours}{own_norm}.{kind}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (architecture, ours, theirs) in [
            ("bitnet", "token_embd.weight", "model.embed_tokens.weight"),
            ("llama", "blk.12.attn_q.bias", "model.layers.12.self_attn.q_proj.bias"),
            ("bitnet", "blk.0.ffn_sub_norm.weight", "model.layers.0.mlp.ffn_sub_norm.weight"),
            ("qwen3", "blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"),
            ("qwen3", "blk.1.attn_k_norm.weight", "model.layers.1.self_attn.k_norm.weight"),
            ("qwen3", "blk.1.attn_k_norm_in.weight", "model.layers.1.self_attn.k_proj.norm.weight"),
            ("gemma3", "blk.1.ffn_down_norm_in.weight", "model.layers.1.mlp.down_proj.norm.weight"),
            ("gemma3", "blk.1.post_attention_norm.weight", "model.layers.1.post_attention_layernorm.weight"),
            ("gemma3", "blk.1.ffn_norm.weight", "model.layers.1.pre_feedforward_layernorm.weight"),
            ("gemma3", "blk.1.post_ffw_norm.weight", "model.layers.1.post_feedforward_layernorm.weight"),
        ] {
            let names = Names::of(architecture);
            assert_eq!(names.to_hugging_face(ours).unwrap(), theirs);
            assert_eq!(names.to_gguf(theirs).unwrap(), ours);
        }
    }

    #[test]
    fn other_names_stay_their_own() {
        for name in [
            "blk.00.attn_q.weight",
            "blk.0.attn_q.scale",
            "blk.0.attn_rot.weight",
            "blk.0.ffn_norm_norm_in.weight",
            "blk.0.post_ffw_norm.weight",
            "rope_freqs.weight",
        ] {
            assert_eq!(Names::of("llama").to_hugging_face(name), None);
        }
    }
}
