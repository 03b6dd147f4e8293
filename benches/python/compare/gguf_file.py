"""The weights of a packed checkpoint for llama.cpp: `python -m compare.gguf_file MODEL TQ2_0 OUT.gguf`.

llama.cpp knows the architecture as `bitnet`, which is the one of 1bitLLM: the same tensors, but SiLU where
bitnet-b1.58-2B-4T squares a ReLU. So the logits are those of another model; the matrices, which take the
time, are the same.

The ternary matrices are written bit for bit (`tq`). The embedding, which is the head too, goes in as float16
and is then brought to Q6_K by llama.cpp's quantizer, its choice for a tied head.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import numpy.typing as npt

from compare import tq
from compare.checkpoint import Checkpoint

ARCHITECTURE = "bitnet"
ENCODERS = {"TQ1_0": tq.tq1_0, "TQ2_0": tq.tq2_0}
LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {
    "input_layernorm": "attn_norm",
    "self_attn.attn_sub_norm": "attn_sub_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
}


def convert(model: Path, weights: str, out: Path) -> None:
    """Write the checkpoint `model` with `weights` TQ1_0 or TQ2_0 and the head in Q6_K."""
    whole = out.with_suffix(".f16-head.gguf")
    partial = out.with_suffix(".partial.gguf")
    try:
        write(Checkpoint(model), weights, whole)
        quantize_head(whole, weights, partial)
        partial.replace(out)
    finally:
        whole.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def write(checkpoint: Checkpoint, weights: str, out: Path) -> None:
    """The file with its embedding in float16."""
    writer = gguf.GGUFWriter(out, ARCHITECTURE)
    add_hyperparameters(writer, checkpoint.config)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{weights}"])
    raw_dtype = gguf.GGMLQuantizationType[weights]
    for name, codes, scale in ternary(checkpoint):
        writer.add_tensor(name, ENCODERS[weights](codes, scale), raw_dtype=raw_dtype)
    for name, values in floats(checkpoint):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_hyperparameters(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """The keys of the architecture, and a vocabulary of the right size without a tokenizer."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or hidden // heads)
    writer.add_rope_freq_base(config.get("rope_parameters", config)["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("none")


def ternary(checkpoint: Checkpoint) -> Iterator[tuple[str, npt.NDArray[np.uint8], float]]:
    """GGUF name, codes and scale of every ternary matrix."""
    for layer in range(checkpoint.config["num_hidden_layers"]):
        for theirs, ours in LINEARS.items():
            name = f"model.layers.{layer}.{theirs}"
            scale = checkpoint.floats(f"{name}.weight_scale").item()
            yield f"blk.{layer}.{ours}.weight", checkpoint.codes(f"{name}.weight"), scale


def floats(checkpoint: Checkpoint) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """GGUF name and values of the embedding and the norms."""
    yield "token_embd.weight", checkpoint.floats("model.embed_tokens.weight").astype(np.float16)
    yield "output_norm.weight", checkpoint.floats("model.norm.weight")
    for layer in range(checkpoint.config["num_hidden_layers"]):
        for theirs, ours in NORMS.items():
            yield f"blk.{layer}.{ours}.weight", checkpoint.floats(f"model.layers.{layer}.{theirs}.weight")


def quantize_head(source: Path, weights: str, out: Path) -> None:
    """Copy the file with its embedding in Q6_K; matrices in `weights` already are copied as they are."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{weights}")
    params.token_embedding_type = llama_cpp.GGML_TYPE_Q6_K
    params.pure = True
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), params)
    if status != 0:
        raise RuntimeError(f"llama_model_quantize ended with status {status}")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
