"""The tensors of a checkpoint as parameters of a model: names, packed codes, scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import mlx.core as mx
import numpy as np

import bitnet_rust as bn
from bitnet_rust._errors import CheckpointError
from bitnet_rust.mlx import packing
from bitnet_rust.mlx.config import ModelArgs

# What families call the same norm.
_RENAMED = {
    "self_attn.inner_attn_ln.": "self_attn.attn_sub_norm.",
    "mlp.ffn_layernorm.": "mlp.ffn_sub_norm.",
    "_proj.rms_norm.": "_proj.norm.",
}


def sanitize(tensors: Mapping[str, mx.array], args: ModelArgs, *, trainable: bool) -> dict[str, mx.array]:
    """Return the parameters of `Model(args, trainable=trainable)`.

    Floats become float32, but for embedding and head, which stay as they are stored. Packed ternary weights
    become words for mx.quantized_matmul, float masters too unless they are to be trained. Raises
    CheckpointError.
    """
    named = {
        _name(name): tensor for name, tensor in tensors.items() if not name.endswith("rotary_emb.inv_freq")
    }
    if args.tie_word_embeddings:
        named.pop("lm_head.weight", None)
    scales = {name: named.pop(name) for name in list(named) if name.endswith(".weight_scale")}
    parameters: dict[str, mx.array] = {}
    for name, tensor in named.items():
        parameters.update(_parameters(name, tensor, scales, named, args, trainable))
    return parameters


def _name(name: str) -> str:
    for theirs, ours in _RENAMED.items():
        name = name.replace(theirs, ours)
    return name if name.startswith(("model.", "lm_head.")) else f"model.{name}"


def _parameters(
    name: str,
    tensor: mx.array,
    scales: Mapping[str, mx.array],
    named: Mapping[str, mx.array],
    args: ModelArgs,
    trainable: bool,
) -> Iterator[tuple[str, mx.array]]:
    """Yield what a tensor becomes."""
    linear, _, kind = name.rpartition(".")
    if name in ("model.embed_tokens.weight", "lm_head.weight") and tensor.dtype != mx.uint8:
        # Packed models keep the head as floats whatever the config says.
        is_master = not any(other.dtype == mx.uint8 for other in named.values())
        if name == "lm_head.weight" and is_master and args.quantization.converts("lm_head"):
            raise CheckpointError("lm_head is to be ternary: such a head does not run on MLX")
        yield name, tensor.astype(mx.float32) if trainable else tensor
    elif kind == "weight" and linear.endswith("_proj") and args.quantization.converts(linear):
        if tensor.dtype == mx.uint8:
            if trainable:
                raise CheckpointError(f"tensor {name}: packed weights have no master to train")
            yield from _packed(linear, tensor, scales, args)
        elif trainable:
            yield name, tensor.astype(mx.float32)
        else:
            yield from _ternarized(linear, tensor)
    elif kind == "bias" and args.quantization.multiplies and _is_packed(named, linear):
        # AutoBitLinear of transformers multiplies the biased product by the scale.
        yield name, tensor.astype(mx.float32) * _scale(linear, scales, args)
    elif tensor.dtype == mx.uint8:
        raise CheckpointError(f"tensor {name}: is uint8; the model needs floats here")
    else:
        yield name, tensor.astype(mx.float32)


def _is_packed(named: Mapping[str, mx.array], linear: str) -> bool:
    weight = named.get(f"{linear}.weight")
    return weight is not None and weight.dtype == mx.uint8


def _packed(
    linear: str, tensor: mx.array, scales: Mapping[str, mx.array], args: ModelArgs
) -> Iterator[tuple[str, mx.array]]:
    try:
        codes = packing.unpack_checkpoint(tensor, _rows(linear, args))
    except ValueError as error:
        raise CheckpointError(f"tensor {linear}.weight: {error}") from error
    yield f"{linear}.weight", packing.pack(codes)
    yield f"{linear}.weight_scale", mx.array([_scale(linear, scales, args)])


def _ternarized(linear: str, master: mx.array) -> Iterator[tuple[str, mx.array]]:
    """Codes and scale of a float master, by the function that the engine loads it with."""
    ternary = bn.quantize_weights(np.array(master.astype(mx.float32)))
    yield f"{linear}.weight", packing.pack(mx.array((ternary.codes + 1).astype(np.uint8)))
    yield f"{linear}.weight_scale", mx.array([ternary.scale])


def _scale(linear: str, scales: Mapping[str, mx.array], args: ModelArgs) -> float:
    """Return what a code of 1 stands for, rounded to float32 once."""
    stored = scales.get(f"{linear}.weight_scale")
    if stored is None or stored.size != 1:
        what = "is missing" if stored is None else f"has shape {list(stored.shape)}; one number is needed"
        raise CheckpointError(f"tensor {linear}.weight_scale: {what}")
    value = float(np.float64(stored.astype(mx.float32).item()))
    if not (np.isfinite(value) and value > 0):
        raise CheckpointError(f"tensor {linear}.weight_scale: {value} is no scale")
    return float(np.float32(value if args.quantization.multiplies else 1.0 / value))


def _rows(linear: str, args: ModelArgs) -> int:
    return {
        "q_proj": args.num_attention_heads * args.head_dim,
        "k_proj": args.num_key_value_heads * args.head_dim,
        "v_proj": args.num_key_value_heads * args.head_dim,
        "o_proj": args.hidden_size,
        "gate_proj": args.intermediate_size,
        "up_proj": args.intermediate_size,
        "down_proj": args.hidden_size,
    }[linear.rpartition(".")[2]]
