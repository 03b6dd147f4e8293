"""GGUF files of small random models, written with gguf-py and encoders of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from checkpoints import JsonObject
from compare import tq

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

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


def unpack(packed: Bytes) -> Bytes:
    """Codes {0, 1, 2} of a packed Hugging Face tensor."""
    return np.concatenate([packed >> shift & 3 for shift in (0, 2, 4, 6)])


def permute(rows: Array, heads: int) -> Array:
    """LlamaModel.permute of llama.cpp's converter."""
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def i2_s(codes: Bytes, scale: float, group: int = 128) -> Bytes:
    """Codes {0, 1, 2} in groups, the first quarter of a group in the highest bits; then the scale."""
    quarters = codes.reshape(-1, 4, group // 4)
    packed = np.bitwise_or.reduce(quarters << np.array([6, 4, 2, 0], np.uint8)[:, None], axis=1)
    tail = np.zeros(8, np.float32)
    tail[0] = scale
    return np.concatenate([packed.reshape(-1), tail.view(np.uint8)])


def write(
    path: Path,
    config: JsonObject,
    tensors: dict[str, Array],
    *,
    architecture: str = "bitnet-b1.58",
    embedding: tuple[Bytes, gguf.GGMLQuantizationType] | None = None,
    linear: Callable[[gguf.GGUFWriter, str, Bytes, float], None] | None = None,
    rope_factors: Array | None = None,
) -> None:
    """Write a model without a tokenizer.

    `linear` writes one ternary matrix, as TQ2_0 by default; `embedding` its bytes in another type than F32;
    `rope_factors` what rotary frequencies are divided by.
    """
    writer = gguf.GGUFWriter(path, architecture)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("none")
    if embedding is None:
        writer.add_tensor("token_embd.weight", tensors["model.embed_tokens.weight"].astype(np.float32))
    else:
        writer.add_tensor("token_embd.weight", embedding[0], raw_dtype=embedding[1])
    writer.add_tensor("output_norm.weight", tensors["model.norm.weight"].astype(np.float32))
    if "lm_head.weight" in tensors:
        writer.add_tensor("output.weight", tensors["lm_head.weight"].astype(np.float32))
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors)
    divides = config["quantization_config"].get("linear_class") != "autobitlinear"
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in NORMS.items():
            norm = tensors.get(f"model.layers.{layer}.{theirs}.weight")
            if norm is not None:
                writer.add_tensor(f"blk.{layer}.{ours}.weight", norm.astype(np.float32))
        for theirs, ours in LINEARS.items():
            name = f"model.layers.{layer}.{theirs}"
            codes = unpack(tensors[f"{name}.weight"])
            bias = tensors.get(f"{name}.bias")
            permuted = {"attn_q": heads, "attn_k": kv_heads}.get(ours) if architecture == "llama" else None
            if permuted is not None:
                codes = permute(codes, permuted)
                bias = None if bias is None else permute(bias, permuted)
            scale = tensors[f"{name}.weight_scale"].item()
            (linear or tq2_0)(writer, f"blk.{layer}.{ours}.weight", codes, 1 / scale if divides else scale)
            if bias is not None:
                writer.add_tensor(f"blk.{layer}.{ours}.bias", bias.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama3_factors(config: JsonObject, dim: int) -> npt.NDArray[np.float32]:
    """`LlamaModel.generate_extra_tensors` of llama.cpp's converter, in float32 as torch computes it."""
    f, rope = np.float32, config["rope_scaling"]
    low, high, context = (
        rope[key] for key in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    factors = []
    for exponent in np.arange(0, dim, 2).astype(f) / f(dim):
        frequency = f(1) / f(config["rope_theta"] ** float(exponent))
        # A quotient with a number in front is a product with the reciprocal.
        wavelength = f(1) / frequency * f(2 * np.pi)
        smooth = (f(1) / wavelength * f(context) - f(low)) / f(high - low)
        blend = f(1) / ((f(1) - smooth) / f(rope["factor"]) + smooth)
        long = f(rope["factor"]) if wavelength > f(context / low) else blend
        factors.append(f(1) if wavelength < f(context / high) else long)
    return np.array(factors, f)


def tq2_0(writer: gguf.GGUFWriter, name: str, codes: Bytes, scale: float) -> None:
    """One matrix as TQ2_0."""
    writer.add_tensor(name, tq.tq2_0(codes, scale), raw_dtype=gguf.GGMLQuantizationType.TQ2_0)


def tq1_0(writer: gguf.GGUFWriter, name: str, codes: Bytes, scale: float) -> None:
    """One matrix as TQ1_0."""
    writer.add_tensor(name, tq.tq1_0(codes, scale), raw_dtype=gguf.GGMLQuantizationType.TQ1_0)


def floats(dtype: type[np.floating[Any]]) -> Callable[[gguf.GGUFWriter, str, Bytes, float], None]:
    """One matrix as floats that are ternary already."""

    def write(writer: gguf.GGUFWriter, name: str, codes: Bytes, scale: float) -> None:
        writer.add_tensor(name, ((codes.astype(np.float32) - 1) * np.float32(scale)).astype(dtype))

    return write
