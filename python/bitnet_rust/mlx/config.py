"""What config.json says of a model, in the words of transformers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet_rust._errors import ConfigError

Json = Mapping[str, Any]

ACTIVATIONS = ("relu2", "silu", "gelu", "gelu_pytorch_tanh")


@dataclass(frozen=True)
class Family:
    """What sets the models of a family apart: names of the inner norms, and what their configs leave out."""

    sub_norms: bool = False
    head_norms: bool = False
    is_always_bitnet: bool = False
    mlp_bias: bool = True
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    head_dim: int | None = None


FAMILIES = {
    "bitnet": Family(
        sub_norms=True,
        is_always_bitnet=True,
        mlp_bias=False,
        hidden_act="relu2",
        rms_norm_eps=1e-5,
        rope_theta=500_000.0,
    ),
    "1bitLLM": Family(sub_norms=True, is_always_bitnet=True, mlp_bias=False),
    "llama": Family(),
    "qwen3": Family(head_norms=True, head_dim=128),
}


@dataclass(frozen=True)
class Quantization:
    """How the linears of a checkpoint are quantized."""

    multiplies: bool = True
    """Whether a stored weight_scale is what a code of 1 stands for, or its reciprocal."""
    not_converted: tuple[str, ...] = ("lm_head",)
    """Modules that stay float: endings of their names, or regular expressions from the start up to a dot."""
    input_norm_eps: float | None = None
    """Of the norm in front of each projection, where there are such."""

    def converts(self, name: str) -> bool:
        """Whether the linear of this name is ternary, as transformers 5.23 reads the list."""
        return not any(name.endswith(entry) or _matches(entry, name) for entry in self.not_converted)


@dataclass(frozen=True)
class ModelArgs:
    """A decoder-only transformer. The names are those of config.json, and of mlx-lm."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    hidden_act: str = "relu2"
    rope_theta: float = 500_000.0
    rope_scaling: Json | None = None
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    sub_norms: bool = True
    head_norms: bool = False
    quantization: Quantization = field(default_factory=Quantization)

    @classmethod
    def from_dict(cls, config: Json, tensors: Mapping[str, Any] | None = None) -> ModelArgs:
        """Read config.json; the names of the tensors tell families of one model_type apart.

        Raises ConfigError for what is missing, cannot be, or does not run on MLX.
        """
        names = {} if tensors is None else tensors
        family = _family(config, names)
        if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ()):
            raise ConfigError("config.json: sliding windows do not run on MLX")
        rope = _rope(config, family)
        heads = _size(config, "num_attention_heads")
        hidden = _size(config, "hidden_size")
        args = cls(
            model_type=config["model_type"],
            vocab_size=_size(config, "vocab_size"),
            hidden_size=hidden,
            intermediate_size=_size(config, "intermediate_size"),
            num_hidden_layers=_size(config, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=_size(config, "num_key_value_heads", heads),
            head_dim=_size(config, "head_dim", family.head_dim or hidden // heads),
            max_position_embeddings=_size(config, "max_position_embeddings", 2048),
            rms_norm_eps=float(config.get("rms_norm_eps", family.rms_norm_eps)),
            hidden_act=_activation(config.get("hidden_act") or family.hidden_act),
            rope_theta=float(rope["rope_theta"]),
            rope_scaling=rope,
            tie_word_embeddings=_is_tied(config, names),
            attention_bias=bool(config.get("attention_bias", False)),
            mlp_bias=family.mlp_bias and bool(config.get("mlp_bias", False)),
            sub_norms=family.sub_norms,
            head_norms=family.head_norms,
            quantization=_quantization(config, names, family),
        )
        if args.num_attention_heads % args.num_key_value_heads or args.head_dim % 2:
            raise ConfigError(
                f"config.json: {heads} heads of {args.head_dim} over {args.num_key_value_heads} heads of keys"
            )
        return args

    def rope_periods(self) -> npt.NDArray[np.float32]:
        """Return 1 / f_i, float32, of f_i = theta^(-2i / head_dim) stretched as rope_scaling says.

        linear: f / factor. llama3: (1 - t) f / factor + t f with t = clip((n - low) / (high - low), 0, 1) and
        n = f original / (2 pi) turns in the original context. Source: transformers 5.23,
        modeling_rope_utils.py.
        """
        freqs = self.rope_theta ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        rope = self.rope_scaling or {}
        kind = rope.get("rope_type", "default")
        if kind == "linear":
            freqs = freqs / rope["factor"]
        elif kind == "llama3":
            turns = freqs * rope["original_max_position_embeddings"] / (2 * math.pi)
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
            freqs = (1 - keep) * freqs / rope["factor"] + keep * freqs
        periods: npt.NDArray[np.float32] = (1.0 / freqs).astype(np.float32)
        return periods


def _family(config: Json, names: Mapping[str, Any]) -> Family:
    name = config.get("model_type")
    if any(tensor.endswith("self_attn.inner_attn_ln.weight") for tensor in names):
        name = "1bitLLM"
    if name not in FAMILIES:
        raise ConfigError(
            f"config.json: model_type {name!r} does not run on MLX; these do: bitnet, llama, qwen3"
        )
    return FAMILIES[name]


def _size(config: Json, key: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or not 0 < value < 1 << 31:
        raise ConfigError(
            f"config.json: {key} cannot be {value}" if value else f"config.json: {key} is missing"
        )
    return value


def _activation(name: str) -> str:
    name = {"swish": "silu", "gelu_new": "gelu_pytorch_tanh"}.get(name, name)
    if name not in ACTIVATIONS:
        raise ConfigError(f"config.json: hidden_act {name!r} is unknown; known: {', '.join(ACTIVATIONS)}")
    return name


def _is_tied(config: Json, names: Mapping[str, Any]) -> bool:
    """As config.json says; where it is silent, whether there is no head."""
    tied = config.get("tie_word_embeddings")
    return "lm_head.weight" not in names if tied is None else bool(tied)


def _rope(config: Json, family: Family) -> dict[str, Any]:
    """Return rope_scaling, or rope_parameters; rope_type and an inner rope_theta go before others."""
    parameters = config.get("rope_parameters") or {}
    rope = dict(config.get("rope_scaling") or parameters.get("full_attention") or parameters)
    rope.setdefault("rope_type", rope.pop("type", "default"))
    theta = rope.get("rope_theta") or config.get("rope_theta") or family.rope_theta
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    rope |= {
        "rope_theta": theta,
        "original_max_position_embeddings": original or config.get("max_position_embeddings", 2048),
    }
    needed = {
        "default": (),
        "linear": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    }.get(rope["rope_type"])
    if needed is None:
        raise ConfigError(
            f"config.json: rope_type {rope['rope_type']!r} is unknown; known: default, linear, llama3"
        )
    for key in needed:
        if not isinstance(rope.get(key), (int, float)):
            raise ConfigError(f"config.json: {key} of rope_scaling is missing")
    return rope


def _quantization(config: Json, names: Mapping[str, Any], family: Family) -> Quantization:
    has_own_norms = any(name.endswith("_proj.norm.weight") for name in names)
    own_eps = float(config.get("rms_norm_eps", family.rms_norm_eps)) if has_own_norms else None
    section = config.get("quantization_config")
    if section is None:
        if not (family.is_always_bitnet or has_own_norms):
            raise ConfigError(
                "config.json: has no quantization_config; models with float activations do not run on MLX"
            )
        return Quantization(input_norm_eps=own_eps)
    method, linear_class = section.get("quant_method", "bitnet"), section.get("linear_class", "bitlinear")
    if method != "bitnet":
        raise ConfigError(f'config.json: quant_method is {method!r}, not "bitnet"')
    if linear_class not in ("bitlinear", "autobitlinear"):
        raise ConfigError(
            f"config.json: linear_class {linear_class!r} is unknown; known: bitlinear, autobitlinear"
        )
    listed = section.get("modules_to_not_convert")
    return Quantization(
        multiplies=linear_class == "autobitlinear",
        not_converted=("lm_head",) if listed is None else tuple(listed),
        input_norm_eps=section.get("rms_norm_eps", 1e-6) if section.get("use_rms_norm") else own_eps,
    )


def _matches(entry: str, name: str) -> bool:
    try:
        return re.match(rf"(?:{entry})(?:\.|$|(?<=\.))", name) is not None
    except re.error:
        return False
