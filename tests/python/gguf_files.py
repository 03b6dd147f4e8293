"""GGUF files of small random models, written with gguf-py and encoders of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import bitnet_rust as bn
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


class Embedder(NamedTuple):
    """What GGUF has of a family of embedding models: its name, its norms, and what is added to them."""

    architecture: str
    norms: dict[str, str]
    offset: float


HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
EMBEDDERS = {
    "qwen3": Embedder(
        "qwen3",
        {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", **HEAD_NORMS},
        0.0,
    ),
    "gemma3_text": Embedder(
        "gemma3",
        {
            "input_layernorm": "attn_norm",
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
            **HEAD_NORMS,
        },
        1.0,
    ),
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
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    add_shape(writer, config, config["hidden_size"] // heads)
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
    finish(writer)


def write_embedder(
    path: Path,
    config: JsonObject,
    tensors: dict[str, Array],
    *,
    linear: Callable[[gguf.GGUFWriter, str, Bytes, float], None] | None = None,
    keys: Callable[[gguf.GGUFWriter], None] | None = None,
    instead: Mapping[str, Array | None] | None = None,
) -> None:
    """Write a model of `EMBEDDERS` as microsoft/BitNet's converter does, but for an embedding in float32.

    `linear` writes a ternary matrix; without it masters stay floats. `keys` writes more keys, those of the
    tokenizer among them. `instead` has what stands for a tensor of a name; None leaves it out.
    """
    tensors = {name if name.startswith("model.") else f"model.{name}": t for name, t in tensors.items()}
    instead = instead or {}
    family = EMBEDDERS[config["model_type"]]
    writer = gguf.GGUFWriter(path, family.architecture)
    add_shape(writer, config, config["head_dim"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    (keys or (lambda writer: writer.add_tokenizer_model("none")))(writer)

    def add(name: str, values: Array) -> None:
        found = instead.get(name, values)
        if found is not None:
            writer.add_tensor(name, found)

    add("token_embd.weight", tensors["model.embed_tokens.weight"].astype(np.float32))
    add("output_norm.weight", (tensors["model.norm.weight"] + family.offset).astype(np.float16))
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in family.norms.items():
            norm = tensors[f"model.layers.{layer}.{theirs}.weight"] + family.offset
            add(f"blk.{layer}.{ours}.weight", norm.astype(np.float16))
        for theirs, ours in LINEARS.items():
            name, target = f"model.layers.{layer}.{theirs}", f"blk.{layer}.{ours}"
            own_norm = tensors.get(f"{name}.norm.weight")
            if own_norm is not None:
                add(f"{target}_norm_in.weight", own_norm.astype(np.float16))
            weight, scale = tensors[f"{name}.weight"], tensors.get(f"{name}.weight_scale")
            if linear is None:
                add(f"{target}.weight", weight.astype(np.float32))
            elif scale is not None:
                linear(writer, f"{target}.weight", unpack(weight), scale.item())
            else:
                ternary = bn.quantize_weights(weight.astype(np.float32))
                linear(writer, f"{target}.weight", (ternary.codes + 1).astype(np.uint8), ternary.scale)
    finish(writer)


def add_shape(writer: gguf.GGUFWriter, config: JsonObject, head_dim: int) -> None:
    """The keys of sizes, positions and norms."""
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def finish(writer: gguf.GGUFWriter) -> None:
    """Write everything to the file."""
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


def add_i2_s(writer: gguf.GGUFWriter, name: str, codes: Bytes, scale: float) -> None:
    """One matrix as I2_S, which gguf-py does not know: of signed bytes it does not ask for the size."""
    number: Any = 36
    writer.add_tensor(name, i2_s(codes, scale).view(np.int8), raw_shape=codes.shape, raw_dtype=number)


def tq1_0(writer: gguf.GGUFWriter, name: str, codes: Bytes, scale: float) -> None:
    """One matrix as TQ1_0."""
    writer.add_tensor(name, tq.tq1_0(codes, scale), raw_dtype=gguf.GGMLQuantizationType.TQ1_0)


def floats(dtype: type[np.floating[Any]]) -> Callable[[gguf.GGUFWriter, str, Bytes, float], None]:
    """One matrix as floats that are ternary already."""

    def write(writer: gguf.GGUFWriter, name: str, codes: Bytes, scale: float) -> None:
        writer.add_tensor(name, ((codes.astype(np.float32) - 1) * np.float32(scale)).astype(dtype))

    return write
