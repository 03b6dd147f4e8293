"""Decoders of ternary linears as MLX modules, by the conventions of mlx-lm.

    h' = h  + o(n_a(attention(q(n_1(h)), k(n_1(h)), v(n_1(h)))))
    y  = h' + down(n_f(act(gate(n_2(h'))) * up(n_2(h'))))

`Model(args)(inputs, cache=cache)` gives logits; `layers`, `args` and `sanitize` are what mlx_lm.generate,
its caches and its tuner ask for. Arithmetic between the linears is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from bitnet_rust.mlx.config import ModelArgs
from bitnet_rust.mlx.nn import BitLinear, QuantizedBitLinear
from bitnet_rust.mlx.sanitize import sanitize

ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "relu2": nn.relu2,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "gelu_pytorch_tanh": nn.gelu_approx,
}


class Linears:
    """Makes the linears of a model: ternary, trainable or packed, and floats where the config says so."""

    def __init__(self, args: ModelArgs, trainable: bool) -> None:
        self.quantization = args.quantization
        self.linear = BitLinear if trainable else QuantizedBitLinear

    def __call__(self, name: str, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Return the linear of this name."""
        if not self.quantization.converts(name):
            return nn.Linear(inputs, outputs, bias=bias)
        eps = self.quantization.input_norm_eps
        norm = None if eps is None else nn.RMSNorm(inputs, eps=eps)
        return self.linear(inputs, outputs, bias, norm=norm)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, args: ModelArgs, name: str, linears: Linears) -> None:
        super().__init__()
        heads, kv_heads, dim = args.num_attention_heads, args.num_key_value_heads, args.head_dim
        bias = args.attention_bias
        self.head_dim = dim
        self.scale = dim**-0.5
        self.q_proj = linears(f"{name}.q_proj", args.hidden_size, heads * dim, bias)
        self.k_proj = linears(f"{name}.k_proj", args.hidden_size, kv_heads * dim, bias)
        self.v_proj = linears(f"{name}.v_proj", args.hidden_size, kv_heads * dim, bias)
        self.o_proj = linears(f"{name}.o_proj", heads * dim, args.hidden_size, bias)
        if args.sub_norms:
            self.attn_sub_norm = nn.RMSNorm(heads * dim, eps=args.rms_norm_eps)
        if args.head_norms:
            self.q_norm = nn.RMSNorm(dim, eps=args.rms_norm_eps)
            self.k_norm = nn.RMSNorm(dim, eps=args.rms_norm_eps)
        self._periods = mx.array(args.rope_periods())

    def __call__(self, x: mx.array, mask: mx.array | str | None, cache: Any) -> mx.array:
        """Return the output [batch, tokens, hidden]; cache is one of mlx-lm's, a backend's, or None."""
        batch, tokens, _ = x.shape
        q, k, v = (
            linear(x).reshape(batch, tokens, -1, self.head_dim)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        if "q_norm" in self:
            q, k = self.q_norm(q), self.k_norm(k)
        if hasattr(cache, "bits"):
            raise ValueError("mlx-lm's quantized caches (kv_bits) are not supported")
        offset = 0 if cache is None else cache.offset
        q, k = self._rotate(q, offset), self._rotate(k, offset)
        v = v.swapaxes(1, 2)
        if hasattr(cache, "attend"):
            y = cache.attend(q, k, v, self.scale)
        else:
            if cache is not None:
                k, v = cache.update_and_fetch(k, v)
            y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale, mask=mask)
        y = y.swapaxes(1, 2).reshape(batch, tokens, -1)
        if "attn_sub_norm" in self:
            y = self.attn_sub_norm(y)
        return self.o_proj(y)

    def _rotate(self, x: mx.array, offset: int | mx.array) -> mx.array:
        """[batch, tokens, heads, dim], turned to its positions, as [batch, heads, tokens, dim]."""
        return mx.fast.rope(
            x.swapaxes(1, 2),
            self.head_dim,
            traditional=False,
            base=None,
            scale=1.0,
            offset=offset,
            freqs=self._periods,
        )


class MLP(nn.Module):
    """The gated feed-forward network."""

    def __init__(self, args: ModelArgs, name: str, linears: Linears) -> None:
        super().__init__()
        hidden, inner = args.hidden_size, args.intermediate_size
        self.gate_proj = linears(f"{name}.gate_proj", hidden, inner, args.mlp_bias)
        self.up_proj = linears(f"{name}.up_proj", hidden, inner, args.mlp_bias)
        self.down_proj = linears(f"{name}.down_proj", inner, hidden, args.mlp_bias)
        if args.sub_norms:
            self.ffn_sub_norm = nn.RMSNorm(inner, eps=args.rms_norm_eps)
        self._activation = ACTIVATIONS[args.hidden_act]

    def __call__(self, x: mx.array) -> mx.array:
        """Return the output [batch, tokens, hidden]."""
        y = self._activation(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(self.ffn_sub_norm(y) if "ffn_sub_norm" in self else y)


class Block(nn.Module):
    """One decoder layer."""

    def __init__(self, args: ModelArgs, index: int, linears: Linears) -> None:
        super().__init__()
        name = f"model.layers.{index}"
        self.self_attn = Attention(args, f"{name}.self_attn", linears)
        self.mlp = MLP(args, f"{name}.mlp", linears)
        self.input_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)

    def __call__(self, x: mx.array, mask: mx.array | str | None = None, cache: Any = None) -> mx.array:
        """Return the residual stream behind the layer."""
        x = x + self.self_attn(self.input_layernorm(x), mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers and the last norm."""

    def __init__(self, args: ModelArgs, linears: Linears) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [Block(args, index, linears) for index in range(args.num_hidden_layers)]
        self.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)

    def __call__(self, inputs: mx.array, cache: Sequence[Any] | None = None) -> mx.array:
        """Return what the last norm gives, float32 [batch, tokens, hidden]."""
        x = self.embed_tokens(inputs).astype(mx.float32)
        caches = [None] * len(self.layers) if cache is None else cache
        mask = _mask(x.shape[1], caches[0])
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            x = layer(x, mask, layer_cache)
        return self.norm(x)


class Model(nn.Module):
    """A language model: token ids [batch, tokens] to logits [batch, tokens, vocab_size].

    Its ternary linears are packed, or float masters where trainable; parameters have the names of the
    checkpoint.
    """

    def __init__(self, args: ModelArgs, *, trainable: bool = False) -> None:
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.trainable = trainable
        linears = Linears(args, trainable)
        self.model = Decoder(args, linears)
        if not args.tie_word_embeddings:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(self, inputs: mx.array, cache: Sequence[Any] | None = None) -> mx.array:
        """Return the logits; cache is a list of mlx-lm's caches, one for each layer, which are extended."""
        return self.head(self.model(inputs, cache))

    def head(self, hidden: mx.array) -> mx.array:
        """Return the logits of what the last norm gives."""
        return self.lm_head(hidden) if "lm_head" in self else self.model.embed_tokens.as_linear(hidden)

    def prepare_head(self, bits: int | None) -> None:
        """Make the head float32, or quantize it in groups of 64 by MLX's affine rule. Raises ValueError.

        A head of another float type would become float32 anew for every token.
        """
        stored = self.lm_head if "lm_head" in self else self.model.embed_tokens
        if bits is None:
            stored.weight = stored.weight.astype(mx.float32)
            return
        rows, columns = stored.weight.shape
        if bits not in (4, 6, 8) or columns % 64:
            raise ValueError(
                f"head_bits must be 4, 6 or 8, and the head whole groups of 64, not {bits} and {columns}"
            )
        head = nn.Linear(columns, rows, bias=False)
        head.weight = stored.weight.astype(mx.float32)
        self.lm_head = nn.QuantizedLinear.from_linear(head, group_size=64, bits=bits)

    @property
    def layers(self) -> list[Block]:
        """The decoder layers."""
        layers: list[Block] = self.model.layers
        return layers

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Return the tensors of a checkpoint as parameters of this model. Raises CheckpointError."""
        return sanitize(weights, self.args, trainable=self.trainable)


def _mask(tokens: int, cache: Any) -> mx.array | str | None:
    """Return what a position sees, as mlx-lm's caches say it."""
    if hasattr(cache, "make_mask"):
        mask: mx.array | str | None = cache.make_mask(tokens, return_array=False, window_size=None)
        return mask
    return None if tokens == 1 else "causal"
