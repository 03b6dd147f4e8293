"""The oracle of the tests: a plain float64 forward of BitNet decoder models.

Shares no code with the package, keeps no cache and does no batching: one sequence in, the logits of every
position out. Arithmetic follows transformers 5 (integrations/bitnet.py, models/bitnet, models/llama,
modeling_rope_utils.py), with float64 where transformers has float32.

Block, with n_1, n_2, n_a, n_f, p_1, p_2 RMS norms, of which most families have some (see `FAMILIES`):

    h' = h  + p_1(o(n_a(attention(q(n_1(h)), k(n_1(h)), v(n_1(h))))))
    y  = h' + p_2(down(n_f(act(gate(n_2(h'))) * up(n_2(h')))))
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Config = Mapping[str, Any]

DEFAULTS: dict[str, dict[str, Any]] = {
    "bitnet": {"hidden_act": "relu2", "rms_norm_eps": 1e-5, "rope_theta": 500_000.0},
    "llama": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10_000.0},
    "qwen3": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "head_dim": 128},
    "gemma3_text": {
        "hidden_act": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
}


@dataclass(frozen=True)
class Family:
    """Names of the norms of a block, where it has them, and what is added to their weights."""

    mlp: str = "post_attention_layernorm"
    attention_sub: str | None = None
    mlp_sub: str | None = None
    attention_post: str | None = None
    mlp_post: str | None = None
    head_norms: bool = False
    offset: float = 0.0
    scaled_embedding: bool = False


FAMILIES = {
    "bitnet": Family(attention_sub="self_attn.attn_sub_norm", mlp_sub="mlp.ffn_sub_norm"),
    "1bitLLM": Family(attention_sub="self_attn.inner_attn_ln", mlp_sub="mlp.ffn_layernorm"),
    "llama": Family(),
    "qwen3": Family(head_norms=True),
    "gemma3_text": Family(
        mlp="pre_feedforward_layernorm",
        attention_post="post_attention_layernorm",
        mlp_post="post_feedforward_layernorm",
        head_norms=True,
        offset=1.0,
        scaled_embedding=True,
    ),
}


def family_of(config: Config) -> str:
    """1bitLLM's models say they are Llamas, in all but the name of their class."""
    is_one_bit_llm = config.get("architectures") == ["BitnetForCausalLM"]
    return "1bitLLM" if is_one_bit_llm else str(config["model_type"])


def embed(config: Config, tensors: Mapping[str, Array], ids: Sequence[int]) -> Array:
    """h / |h| with h the last hidden state of the last token, [hidden_size]."""
    last = hidden_states(config, tensors, ids)[-1][-1]
    unit: Array = last / np.sqrt(np.square(last).sum())
    return unit


def forward(
    config: Config, tensors: Mapping[str, Array], ids: Sequence[int], dtype: npt.DTypeLike = np.float64
) -> Array:
    """Logits [len(ids), vocab_size] = h_L @ W_head.T, with h_L the last of `hidden_states`.

    `tensors` as a loader sees them: floats, or uint8 for packed weights. `dtype` float32 shows how far
    rounding alone moves a result.
    """
    return Decoder(config, tensors, dtype).logits(ids)


def hidden_states(
    config: Config, tensors: Mapping[str, Array], ids: Sequence[int], dtype: npt.DTypeLike = np.float64
) -> list[Array]:
    """Embedding, then the output of every layer, the last after the final norm, [len(ids), hidden_size]."""
    return Decoder(config, tensors, dtype).hidden_states(ids)


def assert_agreement(
    logits: Sequence[Array], expected: Sequence[Array], *, tolerance: float, share: float = 0.5
) -> None:
    """Fail unless both lists of logits [T_i, vocab] come from the same computation.

    With e = mean|difference| / std(expected) of a position: e <= `tolerance` at `share` of the positions and
    e <= 0.05 at all of them, and the same best token wherever it leads by more than 10 e.

    Correct results differ in two sizes, because activations are rounded to int8. Two float32 programs agree
    to 1e-6 until a value falls so close to a tie that one rounds it up and the other down. That shifts the
    logits of its position, and of the later ones that attend to it, by about 1 %. A mistake shows everywhere.
    """
    errors, leads, same = [], [], []
    for ours, theirs in zip(logits, expected, strict=True):
        assert ours.shape == theirs.shape
        errors.append(np.abs(ours - theirs).mean(axis=-1) / theirs.std())
        second, best = np.sort(theirs, axis=-1)[:, -2:].T
        leads.append((best - second) / theirs.std())
        same.append(ours.argmax(axis=-1) == theirs.argmax(axis=-1))
    error = np.concatenate(errors)
    assert np.quantile(error, share, method="higher") <= tolerance
    assert error.max() <= 0.05
    assert np.all(np.concatenate(same) | (np.concatenate(leads) <= 10 * error))


class Decoder:
    """One checkpoint: its configuration and its decoded tensors."""

    def __init__(
        self, config: Config, tensors: Mapping[str, Array], dtype: npt.DTypeLike = np.float64
    ) -> None:
        self.config = {**DEFAULTS[config["model_type"]], **config}
        self.family = FAMILIES[family_of(config)]
        self.dtype = dtype
        self.tensors = {n: t if t.dtype == np.uint8 else t.astype(dtype) for n, t in tensors.items()}
        if "embed_tokens.weight" in tensors:
            self.tensors = {f"model.{name}": tensor for name, tensor in self.tensors.items()}
        self.own_norms = "model.layers.0.self_attn.q_proj.norm.weight" in self.tensors
        is_bitnet = self.own_norms or self.family.attention_sub is not None
        # Without the section weights are multiplied as they are, unless the model is a known BitNet one.
        unnamed = {"quantization_mode": "online"} if is_bitnet else {"modules_to_not_convert": [""]}
        self.quantization: Config = config.get("quantization_config", unnamed)
        self.heads: int = config["num_attention_heads"]
        self.kv_heads: int = config.get("num_key_value_heads") or self.heads
        self.head_dim = head_dim(self.config)

    def logits(self, ids: Sequence[int]) -> Array:
        """See `forward`."""
        return self.head(self.hidden_states(ids)[-1])

    def hidden_states(self, ids: Sequence[int]) -> list[Array]:
        """See the function of the same name."""
        scale = math.sqrt(self.config["hidden_size"]) if self.family.scaled_embedding else 1.0
        states = [self.tensors["model.embed_tokens.weight"][np.asarray(ids)] * np.array(scale, self.dtype)]
        for layer in range(self.config["num_hidden_layers"]):
            states.append(self.block(states[-1], layer))
        states[-1] = self.norm(states[-1], "model.norm")
        return states

    def head(self, x: Array) -> Array:
        """x W^T with W the embedding (tied) or lm_head; a quantized head is outside of this reference."""
        if self.config.get("tie_word_embeddings", False):
            return x @ self.tensors["model.embed_tokens.weight"].T
        if is_converted("lm_head", self.quantization):
            raise ValueError("modules_to_not_convert leaves out lm_head: a quantized head has no reference")
        return x @ self.tensors["lm_head.weight"].T

    def block(self, x: Array, layer: int) -> Array:
        """One decoder layer, by the formula at the top of this file."""
        name, family = f"model.layers.{layer}", self.family
        y = self.attention(self.norm(x, f"{name}.input_layernorm"), name, self.is_local(layer))
        x = x + self.norm_if(y, name, family.attention_post)
        return x + self.norm_if(self.mlp(self.norm(x, f"{name}.{family.mlp}"), name), name, family.mlp_post)

    def is_local(self, layer: int) -> bool:
        """Whether the layer sees a window of positions alone."""
        if "sliding_window_pattern" not in self.config:
            return False
        types = self.config.get("layer_types")
        if types is not None:
            return bool(types[layer] == "sliding_attention")
        return bool((layer + 1) % self.config["sliding_window_pattern"] != 0)

    def attention(self, x: Array, layer: str, local: bool) -> Array:
        """o(n_a(softmax(q k^T scale + mask) v)), q and k after their norms and RoPE, kv heads repeated.

        scale is 1 / sqrt(query_pre_attn_scalar), by default of head_dim.
        """
        name = f"{layer}.self_attn"
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shape = (len(x), -1, self.head_dim)
        q = self.linear(x, f"{name}.q_proj", width).reshape(shape)
        k = self.linear(x, f"{name}.k_proj", kv_width).reshape(shape)
        v = self.linear(x, f"{name}.v_proj", kv_width).reshape(shape)
        if self.family.head_norms:
            q, k = self.norm(q, f"{name}.q_norm"), self.norm(k, f"{name}.k_norm")
        cos, sin = (t.astype(self.dtype) for t in rope_tables(self.config, len(x), local=local))
        scale = 1 / math.sqrt(self.config.get("query_pre_attn_scalar", self.head_dim))
        window = self.config["sliding_window"] if local else len(x)
        y = causal_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, scale, window)
        y = self.norm_if(y.reshape(len(x), width), layer, self.family.attention_sub)
        return self.linear(y, f"{name}.o_proj", self.config["hidden_size"])

    def mlp(self, x: Array, layer: str) -> Array:
        """down(n_f(act(gate(x)) * up(x)))."""
        name = f"{layer}.mlp"
        width = self.config["intermediate_size"]
        act = ACTIVATIONS[self.config["hidden_act"]]
        y = act(self.linear(x, f"{name}.gate_proj", width)) * self.linear(x, f"{name}.up_proj", width)
        y = self.norm_if(y, layer, self.family.mlp_sub)
        return self.linear(y, f"{name}.down_proj", self.config["hidden_size"])

    def norm(self, x: Array, name: str) -> Array:
        """RMS norm with the weight `<name>.weight`, the family's offset and the model's rms_norm_eps."""
        weight = self.tensors[f"{name}.weight"] + np.array(self.family.offset, self.dtype)
        return rms_norm(x, weight, self.config["rms_norm_eps"])

    def norm_if(self, x: Array, layer: str, name: str | None) -> Array:
        """The norm of this name, if the family has it."""
        return x if name is None else self.norm(x, f"{layer}.{name}")

    def linear(self, x: Array, name: str, rows: int) -> Array:
        """The projection `name` with `rows` outputs, and (x A^T) B^T where there are `lora_A`, `lora_B`."""
        y = self.base_linear(x, name, rows)
        if f"{name}.lora_A.weight" in self.tensors:
            y = y + x @ self.tensors[f"{name}.lora_A.weight"].T @ self.tensors[f"{name}.lora_B.weight"].T
        return y

    def base_linear(self, x: Array, name: str, rows: int) -> Array:
        """A projection alone: quantized, or float if it is named as not converted."""
        weight, bias = self.tensors[f"{name}.weight"], self.bias(name)
        if not is_converted(name, self.quantization):
            return x @ weight.T + bias
        if self.quantization.get("use_rms_norm", False):
            eps = self.quantization.get("rms_norm_eps", 1e-6)
            x = rms_norm(x, self.tensors[f"{name}.rms_norm.weight"], eps)
        elif self.own_norms:
            x = rms_norm(x, self.tensors[f"{name}.norm.weight"], self.config["rms_norm_eps"])
        if self.quantization.get("quantization_mode", "offline") == "online":
            return online_linear(x, weight, bias)
        assert weight.dtype == np.uint8, f"{name} is quantized offline but not packed"
        codes = unpack(weight, rows).astype(self.dtype)
        multiply = self.quantization.get("linear_class", "bitlinear") == "autobitlinear"
        return offline_linear(x, codes, self.tensors[f"{name}.weight_scale"], bias, multiply=multiply)

    def bias(self, name: str) -> Array:
        """`<name>.bias` where the configuration asks for one, else 0; BitNet's MLP never has one."""
        key = "attention_bias" if ".self_attn." in name else "mlp_bias"
        has_bias = self.config.get(key, False) and not (self.family.mlp_sub and key == "mlp_bias")
        return self.tensors[f"{name}.bias"] if has_bias else np.zeros(1, self.dtype)


def online_linear(x: Array, weight: Array, bias: Array) -> Array:
    """Float master weights: y = (W_q . x_q) / (s_x * s_w) + bias."""
    x_q, x_scale = absmax_quantize(x)
    w_q, w_scale = absmean_quantize(weight)
    y: Array = x_q @ w_q.T / (x_scale * w_scale) + bias
    return y


def offline_linear(x: Array, codes: Array, weight_scale: Array, bias: Array, *, multiply: bool) -> Array:
    """Packed weights, one weight_scale per tensor.

    bitlinear (divide):       y = (W_q . x_q) / (s_x * weight_scale) + bias
    autobitlinear (multiply): y = ((W_q . x_q) / s_x + bias) * weight_scale

    The second multiplies the bias too: AutoBitLinear hands it to the matrix product and scales the sum.
    """
    x_q, x_scale = absmax_quantize(x)
    y = x_q @ codes.T / x_scale
    scaled: Array = (y + bias) * weight_scale if multiply else y / weight_scale + bias
    return scaled


def absmax_quantize(x: Array) -> tuple[Array, Array]:
    """x_q = clip(round_half_even(x * s), -128, 127) and s = 127 / max(max|x|, 1e-5), one s per token."""
    scale = 127.0 / np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-5)
    return np.clip(np.rint(x * scale), -128, 127), scale


def absmean_quantize(weight: Array) -> tuple[Array, Array]:
    """W_q = clip(round_half_even(W * s), -1, 1) and s = 1 / max(mean|W|, 1e-5), one s per tensor."""
    scale = 1.0 / np.maximum(np.abs(weight).mean(keepdims=True), 1e-5)
    return np.clip(np.rint(weight * scale), -1, 1), scale[0]


def unpack(packed: Array, rows: int) -> Array:
    """uint8 [R, in] -> codes {-1, 0, 1} [rows, in]: row r + i * R is (packed[r] >> 2 i & 3) - 1, i = 0..3."""
    planes = np.concatenate([packed >> shift & 3 for shift in (0, 2, 4, 6)])
    return planes[:rows].astype(np.int8) - 1


def is_converted(name: str, quantization: Config) -> bool:
    """Whether the linear `name` is quantized.

    Without a list only the head stays float. With one, a linear stays float when an entry is a suffix of its
    name (also one that starts inside a word) or, as a regular expression, matches from the start of its name
    up to a dot or the end.
    """
    patterns = quantization.get("modules_to_not_convert")
    if patterns is None:
        return name != "lm_head"
    return not any(name.endswith(p) or re.match(rf"(?:{p})(?:\.|$|(?<=\.))", name) for p in patterns)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """weight * x / sqrt(mean(x^2) + eps), over the last axis."""
    y: Array = weight * x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps)
    return y


def causal_attention(q: Array, k: Array, v: Array, scale: float, window: int) -> Array:
    """softmax(q k^T scale) v per head, position t seeing the last `window` of 0..t.

    q is [T, H, d], k and v are [T, H_kv, d].
    """
    length, heads, _ = q.shape
    k, v = (np.repeat(t, heads // k.shape[1], axis=1) for t in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) * q.dtype.type(scale)
    seen = np.tri(length, dtype=bool) & ~np.tri(length, k=-window, dtype=bool)
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    mixed: Array = np.einsum("hqk,khd->qhd", weights, v)
    return mixed


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """RoPE on the halves (a, b) of a head: (a cos - b sin, b cos + a sin)."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def rope_tables(config: Config, length: int, *, local: bool = False) -> tuple[Array, Array]:
    """cos and sin of position * frequency, each [length, 1, head_dim / 2]."""
    angles = np.arange(length)[:, None, None] * rope_frequencies(config, local=local)
    return np.cos(angles), np.sin(angles)


def rope_frequencies(config: Config, *, local: bool = False) -> Array:
    """f_i = theta^(-2i / head_dim), scaled by type, [head_dim / 2].

    linear: f / factor
    llama3: (1 - t) * f / factor + t * f with t = clip((n - low) / (high - low), 0, 1) and
            n = f * original / (2 pi), the turns in the original context: fast ones stay, slow ones stretch
    """
    rope = rope_parameters(config, local=local)
    dim = head_dim(config)
    freqs: Array = float(rope["rope_theta"]) ** (-np.arange(0, dim, 2) / dim)
    if rope["rope_type"] == "default":
        return freqs
    slow: Array = freqs / rope["factor"]
    if rope["rope_type"] == "linear":
        return slow
    if rope["rope_type"] != "llama3":
        raise ValueError(f"rope type {rope['rope_type']} has no reference")
    turns = freqs * rope["original_max_position_embeddings"] / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    mixed: Array = (1 - keep) * slow + keep * freqs
    return mixed


def rope_parameters(config: Config, *, local: bool = False) -> dict[str, Any]:
    """RoPE settings in one form, from rope_scaling + rope_theta or from rope_parameters (transformers 5).

    rope_scaling wins over rope_parameters, rope_type over type, an inner rope_theta over an outer one. Layers
    with a window have rope_local_base_freq, or parameters of their own.
    """
    of_kind = (config.get("rope_parameters") or {}).get("sliding_attention" if local else "full_attention")
    if of_kind is not None or local:
        return {"rope_type": "default", "rope_theta": config.get("rope_local_base_freq"), **(of_kind or {})}
    rope = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    default_theta = DEFAULTS[config["model_type"]]["rope_theta"]
    rope.setdefault("rope_type", rope.get("type", "default"))
    rope.setdefault("rope_theta", config.get("rope_theta", default_theta))
    if "original_max_position_embeddings" in config:
        rope["original_max_position_embeddings"] = config["original_max_position_embeddings"]
    rope.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))
    return rope


def head_dim(config: Config) -> int:
    """head_dim, by default hidden_size / num_attention_heads."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def relu2(x: Array) -> Array:
    """max(x, 0)^2."""
    return np.square(np.maximum(x, 0))


def silu(x: Array) -> Array:
    """x / (1 + exp(-x))."""
    y: Array = x / (1 + np.exp(-x))
    return y


def gelu(x: Array) -> Array:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    erf = np.vectorize(math.erf, otypes=[x.dtype])
    y: Array = 0.5 * x * (1 + erf(x / math.sqrt(2)))
    return y


def gelu_tanh(x: Array) -> Array:
    """x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    y: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return y


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu2": relu2,
    "silu": silu,
    "gelu": gelu,
    "gelu_pytorch_tanh": gelu_tanh,
}
