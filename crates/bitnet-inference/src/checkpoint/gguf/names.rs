//! Names of tensors: GGUF's, and those of Hugging Face that a model is loaded by.
//!
//! Source: llama.cpp, `gguf-py/gguf/tensor_mapping.py`.

/// Parts of a block: GGUF's name, and Hugging Face's.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_sub_norm", "self_attn.attn_sub_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_sub_norm", "mlp.ffn_sub_norm"),
    ("ffn_down", "mlp.down_proj"),
];

/// What stands outside the blocks.
const OTHERS: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The Hugging Face name of a tensor of a GGUF file, if it has one.
pub(super) fn to_hugging_face(name: &str) -> Option<String> {
    if let Some((_, theirs)) = OTHERS.iter().find(|(ours, _)| *ours == name) {
        return Some((*theirs).to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    let (_, theirs) = PARTS.iter().find(|(ours, _)| *ours == part)?;
    // "blk.00" and "blk.0" would be one.
    let layer: usize = layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?;
    matches!(kind, "weight" | "bias").then(|| format!("model.layers.{layer}.{theirs}.{kind}"))
}

/// The GGUF name of a tensor by its Hugging Face name, if it has one.
pub(super) fn to_gguf(name: &str) -> Option<String> {
    if let Some((ours, _)) = OTHERS.iter().find(|(_, theirs)| *theirs == name) {
        return Some((*ours).to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let (ours, _) = PARTS.iter().find(|(_, theirs)| *theirs == part)?;
    Some(format!("blk.{layer}.{ours}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (ours, theirs) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("blk.12.attn_q.bias", "model.layers.12.self_attn.q_proj.bias"),
            ("blk.0.ffn_sub_norm.weight", "model.layers.0.mlp.ffn_sub_norm.weight"),
        ] {
            assert_eq!(to_hugging_face(ours).unwrap(), theirs);
            assert_eq!(to_gguf(theirs).unwrap(), ours);
        }
    }

    #[test]
    fn other_names_stay_their_own() {
        for name in
            ["blk.00.attn_q.weight", "blk.0.attn_q.scale", "blk.0.attn_rot.weight", "rope_freqs.weight"]
        {
            assert_eq!(to_hugging_face(name), None);
        }
    }
}
