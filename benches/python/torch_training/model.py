"""A BitNet decoder by PyTorch's own operations: floats that are rounded where the kernels have integers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """What the forward pass has to know of the shape."""

    layers: int
    heads: int
    kv_heads: int
    rms_norm_eps: float
    rope_theta: float

    @staticmethod
    def read(path: Path) -> Config:
        """Of a `config.json`. Raises ValueError for another architecture than the one below."""
        config = json.loads(path.read_text(encoding="utf-8"))
        needed = {"model_type": "bitnet", "hidden_act": "relu2", "tie_word_embeddings": True}
        for name, value in needed.items():
            if config.get(name) != value:
                raise ValueError(f"{path}: {name} must be {value}, not {config.get(name)}")
        return Config(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            rms_norm_eps=config["rms_norm_eps"],
            rope_theta=config["rope_theta"],
        )


def read_parameters(checkpoint: Path) -> Parameters:
    """The float masters of a checkpoint of a run, without the state of its optimizer."""
    tensors = load_file(checkpoint / "tensors.safetensors")
    return {name: tensor.requires_grad_() for name, tensor in tensors.items() if name.endswith(".weight")}


def is_decayed(name: str) -> bool:
    """Whether weight decay is for it: the weights of ternary linears."""
    return name.endswith("_proj.weight")


def loss(parameters: Parameters, config: Config, sequences: Tensor) -> Tensor:
    """Mean cross-entropy, nats per token; `sequences` are `[rows, tokens + 1]`."""
    x = functional.embedding(sequences[:, :-1], parameters["model.embed_tokens.weight"])
    angles = rope(config, x.shape[1], x.shape[2] // config.heads)
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        of_layer = {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
        x = x + attention(of_layer, config, x, angles)
        x = x + mlp(of_layer, config, x)
    h = norm(x, parameters["model.norm.weight"], config)
    logits = functional.linear(h, parameters["model.embed_tokens.weight"])
    return functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())


def attention(p: Parameters, config: Config, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    rows, tokens, _ = x.shape
    x = int8(norm(x, p["input_layernorm.weight"], config))

    def heads(name: str, count: int) -> Tensor:
        y = functional.linear(x, ternary(p[f"self_attn.{name}_proj.weight"]))
        return y.view(rows, tokens, count, -1).transpose(1, 2)

    q = rotated(heads("q", config.heads), angles)
    k = rotated(heads("k", config.kv_heads), angles)
    v = heads("v", config.kv_heads)
    k, v = (y.repeat_interleave(config.heads // config.kv_heads, dim=1) for y in (k, v))
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    y = int8(norm(y, p["self_attn.attn_sub_norm.weight"], config))
    return functional.linear(y, ternary(p["self_attn.o_proj.weight"]))


def mlp(p: Parameters, config: Config, x: Tensor) -> Tensor:
    x = int8(norm(x, p["post_attention_layernorm.weight"], config))
    gate, up = (functional.linear(x, ternary(p[f"mlp.{name}_proj.weight"])) for name in ("gate", "up"))
    y = int8(norm(functional.relu(gate).square() * up, p["mlp.ffn_sub_norm.weight"], config))
    return functional.linear(y, ternary(p["mlp.down_proj.weight"]))


def norm(x: Tensor, weight: Tensor, config: Config) -> Tensor:
    return functional.rms_norm(x, weight.shape, weight, config.rms_norm_eps)


def rope(config: Config, tokens: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, `[tokens, width / 2]`."""
    frequencies = config.rope_theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def rotated(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    (cos, sin), (a, b) = angles, x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def ternary(weight: Tensor) -> Tensor:
    """Absmean: `scale * clamp(round(w / scale), -1, 1)`; its derivative is taken to be 1."""
    scale = weight.detach().abs().mean().clamp(min=1e-5)
    return weight + ((weight / scale).round().clamp(-1, 1) * scale - weight).detach()


def int8(x: Tensor) -> Tensor:
    """Absmax of each token: `round(x scale) / scale`, `scale = 127 / max |x|`; derivative taken as 1."""
    scale = 127 / x.detach().abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
    return x + ((x * scale).round().clamp(-128, 127) / scale - x).detach()
