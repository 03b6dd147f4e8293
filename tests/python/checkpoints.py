"""Small random checkpoints in every dialect, with a safetensors writer and reader of their own.

`build` writes one; `DIALECTS` names those that every loader must read. Magnitudes are chosen so that hidden
states and logits have a standard deviation of about 1: a linear of width n gets weights of about 1 / sqrt(n).
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
JsonObject = dict[str, Any]

# bfloat16 does not exist in NumPy: the upper half of a float32, kept as uint16.
STORAGE = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U8": np.uint8}
TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)


class Stored(NamedTuple):
    """A tensor as it lies in a file: the safetensors dtype and the array of its bytes."""

    dtype: str
    array: Array


def encode(values: Array, dtype: str) -> Stored:
    """Round floats to `dtype`, ties to even; uint8 stays uint8."""
    if dtype != "BF16":
        return Stored(dtype, values.astype(STORAGE[dtype]))
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    rounded = np.where(np.isnan(values), 0x7FC0, rounded)
    return Stored(dtype, rounded.astype(np.uint16))


def decode(stored: Stored) -> Array:
    """The values as a loader sees them: float64, or uint8."""
    if stored.dtype == "U8":
        return stored.array
    if stored.dtype == "BF16":
        return (stored.array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return stored.array.astype(np.float64)


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    """u64 header length, JSON header padded with spaces to 8 bytes, then the tensors in the order given."""
    header: JsonObject = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, array) in tensors.items():
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(array.tobytes() for _, array in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path: Path) -> dict[str, Stored]:
    """Every tensor of one file, unchecked."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header: JsonObject = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        flat = np.frombuffer(content[start:end], STORAGE[entry["dtype"]])
        tensors[name] = Stored(entry["dtype"], flat.reshape(entry["shape"]))
    return tensors


def load(folder: Path) -> tuple[JsonObject, dict[str, Array]]:
    """The configuration and the decoded tensors of a checkpoint folder, sharded or not."""
    config: JsonObject = json.loads((folder / "config.json").read_text())
    shards = sorted(folder.glob("*.safetensors"))
    return config, {n: decode(t) for shard in shards for n, t in read_safetensors(shard).items()}


def pack(codes: Array) -> Array:
    """Codes {-1, 0, 1} [out, in] -> uint8 [R, in], R = ceil(out / 4).

    Byte r holds code + 1 of the rows r + i * R in bits 2i and 2i + 1, i = 0..3; rows past the end leave 0.
    (transformers' pack_weights writes such an end, but its loaders want out to be a multiple of 4.)
    """
    rows = -(-len(codes) // 4)
    planes = np.zeros((4 * rows, codes.shape[1]), np.uint8)
    planes[: len(codes)] = codes + 1
    a, b, c, d = planes.reshape(4, rows, -1)
    packed: Array = a | b << 2 | c << 4 | d << 6
    return packed


@dataclass(frozen=True)
class Spec:
    """What to build. None leaves the key out of config.json, so that the reader's default is met."""

    model_type: str = "bitnet"
    linear_class: str | None = "autobitlinear"
    mode: str | None = "offline"
    dtype: str = "BF16"
    tied: bool = True
    hidden_size: int = 64
    intermediate_size: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int | None = 2
    head_dim: int | None = None
    vocab_size: int = 320
    hidden_act: str | None = None
    rms_norm_eps: float = 1e-5
    attention_bias: bool = False
    mlp_bias: bool = False
    use_rms_norm: bool = False
    quantization_eps: float | None = None
    not_converted: tuple[str, ...] | None = None
    float_linears: tuple[str, ...] = ()
    """Endings of the names that `not_converted` is meant to keep in float; lm_head always is."""
    rope: Mapping[str, Any] = field(default_factory=lambda: {"rope_theta": 10_000.0})
    architecture: str | None = None
    """The class in config.json, by default that of model_type; BitnetForCausalLM means 1bitLLM's."""
    has_section: bool = True
    """Whether config.json has a quantization_config."""
    own_norms: bool = False
    """Whether each linear has a `norm` before it, as in BitNet embedding models."""
    parts: int = 0
    """Ternary floats with a scale for each of so many parts: columns of o_proj and down_proj, else rows."""
    group: int = 0
    """Ternary floats with a scale for each row and so many columns."""
    bare: bool = False
    """Names without "model." in front."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More keys of config.json."""
    shards: int = 1
    aligned: bool = True
    """False puts the uint8 tensors first, so that wider ones start at odd offsets."""
    seed: int = 0

    def is_float(self, name: str) -> bool:
        """Whether the linear `name` is stored as an ordinary float matrix."""
        return name == "lm_head" or any(ending in name for ending in self.float_linears)


def build(
    path: Path, spec: Spec | None = None, *, tokenizer: Path | None = None, **changes: Any
) -> tuple[JsonObject, dict[str, Array]]:
    """Write the checkpoint of `spec`, with `changes` to its fields, into the folder `path`.

    `tokenizer` is a folder to copy a tokenizer from; vocab_size must then fit it. Returns config.json and the
    tensors as a loader sees them, that is after rounding to the stored dtype.
    """
    spec = replace(spec or Spec(), **changes)
    path.mkdir(parents=True, exist_ok=True)
    config = make_config(spec)
    stored = {
        name.removeprefix("model.") if spec.bare else name: encode(values, dtype)
        for name, values, dtype in random_tensors(spec)
    }
    if tokenizer is not None:
        copy_tokenizer(tokenizer, path, config)
    else:
        special = {"bos_token_id": config["bos_token_id"], "eos_token_id": [config["eos_token_id"]]}
        write_json(path / "generation_config.json", special)
    write_json(path / "config.json", config)
    write_weights(path, stored, shards=spec.shards, aligned=spec.aligned)
    return config, {name: decode(tensor) for name, tensor in stored.items()}


def write_json(path: Path, content: JsonObject) -> None:
    """One JSON object, indented."""
    path.write_text(json.dumps(content, indent=2))


def copy_tokenizer(source: Path, target: Path, config: JsonObject) -> None:
    """Copy the tokenizer's files and take its special token ids over into `config`."""
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)
    original = json.loads((source / "config.json").read_text())
    config |= {key: original[key] for key in ("bos_token_id", "eos_token_id")}


def end_texts(folder: Path) -> int:
    """Have the tokenizer of a folder put its last added token, whose id is returned, behind every text."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    end, end_id = (tokenizer["added_tokens"][-1][key] for key in ("content", "id"))
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {end: {"id": end, "ids": [end_id], "tokens": [end]}},
    }
    write_json(folder / "tokenizer.json", tokenizer)
    return int(end_id)


def write_weights(folder: Path, tensors: Mapping[str, Stored], *, shards: int, aligned: bool) -> None:
    """model.safetensors, or shards with an index; wide tensors first when `aligned`, bytes first when not."""
    sign = -1 if aligned else 1
    order = sorted(tensors, key=lambda name: (sign * tensors[name].array.itemsize, name))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", {name: tensors[name] for name in order})
        return
    weight_map: dict[str, str] = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        names = order[i::shards]
        write_safetensors(folder / file, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    total = sum(tensor.array.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


CLASSES = {
    "bitnet": "BitNetForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
ACTS = {"bitnet": "relu2", "llama": "silu", "qwen3": "silu"}


def make_config(spec: Spec) -> JsonObject:
    """config.json of a spec, with the keys of transformers."""
    llama = spec.model_type == "llama"
    config = {
        "architectures": [spec.architecture or CLASSES[spec.model_type]],
        "model_type": spec.model_type,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": spec.hidden_act or ACTS.get(spec.model_type),
        "max_position_embeddings": 256,
        "rms_norm_eps": spec.rms_norm_eps,
        "attention_bias": spec.attention_bias,
        "mlp_bias": spec.mlp_bias if llama else None,
        "tie_word_embeddings": spec.tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": TORCH_NAMES[spec.dtype],
        "quantization_config": quantization_config(spec) if spec.has_section else None,
    }
    everything = {**config, **spec.rope, **spec.extra}
    return {key: value for key, value in everything.items() if value is not None}


def quantization_config(spec: Spec) -> JsonObject:
    """The quantization_config of a spec, without the keys that are None."""
    quantization = {
        "quant_method": "bitnet",
        "linear_class": spec.linear_class,
        "quantization_mode": spec.mode,
        "modules_to_not_convert": None if spec.not_converted is None else list(spec.not_converted),
        "use_rms_norm": spec.use_rms_norm or None,
        "rms_norm_eps": spec.quantization_eps,
    }
    return {key: value for key, value in quantization.items() if value is not None}


Drawn = tuple[str, Array, str]
"""Name, values and safetensors dtype of a tensor."""


def random_tensors(spec: Spec) -> Iterator[Drawn]:
    """Every tensor of the checkpoint, the same for the same spec."""
    rng = np.random.default_rng(spec.seed)
    width = 1 / math.sqrt(spec.hidden_size)
    embedding = rng.normal(size=(spec.vocab_size, spec.hidden_size))
    yield "model.embed_tokens.weight", embedding * (width if spec.tied else 1.0), spec.dtype
    for layer in range(spec.layers):
        yield from random_layer(rng, spec, f"model.layers.{layer}")
    yield random_norm(rng, spec, "model.norm", spec.hidden_size)
    if not spec.tied:
        yield "lm_head.weight", rng.normal(size=(spec.vocab_size, spec.hidden_size)) * width, spec.dtype


def random_layer(rng: np.random.Generator, spec: Spec, layer: str) -> Iterator[Drawn]:
    """The norms and the seven linears of one layer."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    dim = spec.head_dim or hidden // spec.heads
    q, kv = dim * spec.heads, dim * (spec.kv_heads or spec.heads)
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if spec.architecture == "BitnetForCausalLM":
        norms |= {"self_attn.inner_attn_ln": q, "mlp.ffn_layernorm": inner}
    elif spec.model_type == "bitnet":
        norms |= {"self_attn.attn_sub_norm": q, "mlp.ffn_sub_norm": inner}
    if spec.model_type == "gemma3_text":
        norms |= {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    if spec.model_type in ("qwen3", "gemma3_text"):
        norms |= {"self_attn.q_norm": dim, "self_attn.k_norm": dim}
    for norm, size in norms.items():
        yield random_norm(rng, spec, f"{layer}.{norm}", size)
    attention = {"q_proj": (q, hidden), "k_proj": (kv, hidden), "v_proj": (kv, hidden), "o_proj": (hidden, q)}
    for name, shape in attention.items():
        yield from random_linear(rng, spec, f"{layer}.self_attn.{name}", shape, bias=spec.attention_bias)
    mlp = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    for name, shape in mlp.items():
        yield from random_linear(rng, spec, f"{layer}.mlp.{name}", shape, bias=spec.mlp_bias)


def random_norm(rng: np.random.Generator, spec: Spec, name: str, size: int) -> Drawn:
    """A norm weight of about 1; Gemma stores it less 1, but for those of a linear."""
    is_less = spec.model_type == "gemma3_text" and not name.endswith("_proj.norm")
    return f"{name}.weight", rng.normal(0.0 if is_less else 1.0, 0.2, size), spec.dtype


def random_linear(
    rng: np.random.Generator, spec: Spec, name: str, shape: tuple[int, int], *, bias: bool
) -> Iterator[Drawn]:
    """The weight of a linear in the form the spec asks for, its scale, its bias and its own norm."""
    gain = rng.uniform(0.7, 1.3) / math.sqrt(shape[1])
    if spec.is_float(name):
        yield f"{name}.weight", rng.normal(0.0, gain, shape), spec.dtype
    elif spec.parts or spec.group:
        codes = rng.choice([-1, 0, 1], size=shape, p=[0.3, 0.4, 0.3])
        yield (
            f"{name}.weight",
            codes * ternary_scales(rng, spec, name, shape) * gain / math.sqrt(0.6),
            spec.dtype,
        )
    elif spec.mode == "online":
        yield f"{name}.weight", rng.normal(0.0, 1.5 * gain, shape), spec.dtype
    else:
        codes = rng.choice([-1, 0, 1], size=shape, p=[0.3, 0.4, 0.3])
        scale = gain / math.sqrt(0.6)
        stored_scale = scale if spec.linear_class == "autobitlinear" else 1 / scale
        yield f"{name}.weight", pack(codes), "U8"
        yield f"{name}.weight_scale", np.array([stored_scale]), spec.dtype
    if bias:
        yield f"{name}.bias", rng.normal(0.0, 0.3, shape[0]), spec.dtype
    if spec.use_rms_norm and not spec.is_float(name):
        yield random_norm(rng, spec, f"{name}.rms_norm", shape[1])
    if spec.own_norms and not spec.is_float(name):
        yield random_norm(rng, spec, f"{name}.norm", shape[1])


def ternary_scales(rng: np.random.Generator, spec: Spec, name: str, shape: tuple[int, int]) -> Array:
    """A factor of about 1 for every weight, the same in each part or group."""
    rows, cols = shape
    if spec.group:
        factors = rng.uniform(0.7, 1.3, (rows, cols // spec.group))
        return np.repeat(factors, spec.group, axis=1)
    factors = rng.uniform(0.7, 1.3, spec.parts)
    if name.endswith(("o_proj", "down_proj")):
        return np.repeat(factors, cols // spec.parts)[None, :]
    return np.repeat(factors, rows // spec.parts)[:, None]


LLAMA = Spec(model_type="llama", linear_class="bitlinear", tied=False, rms_norm_eps=1e-6)
ONLINE = Spec(mode="online")
LLAMA_ONLINE = replace(LLAMA, linear_class="autobitlinear", mode="online")
# As in HF1BitLLM/Llama3-8B-1.58-100B-tokens: {"quant_method": "bitnet"} and nothing else.
LLAMA_BARE = replace(LLAMA, linear_class=None, mode=None)

# As in 1bitLLM/bitnet_b1_58-3B, whose heads are 100 wide, too.
ONE_BIT_LLM = Spec(
    model_type="llama",
    architecture="BitnetForCausalLM",
    mode="online",
    dtype="F16",
    has_section=False,
    hidden_size=200,
    intermediate_size=216,
    heads=2,
    kv_heads=2,
    extra={"input_bits": 8, "weight_bits": 1, "pretraining_tp": 1},
)
TRILM = replace(
    LLAMA, dtype="F16", has_section=False, parts=2, hidden_size=128, intermediate_size=192, kv_heads=4
)
QWEN3 = Spec(
    model_type="qwen3",
    mode="online",
    has_section=False,
    own_norms=True,
    bare=True,
    head_dim=24,
    rms_norm_eps=1e-6,
    rope={"rope_theta": 1e6},
)
GEMMA3 = replace(
    QWEN3,
    model_type="gemma3_text",
    kv_heads=1,
    layers=4,
    hidden_act=None,
    rope={"rope_theta": 1e6, "rope_local_base_freq": 10_000.0},
    extra={
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 20,
        "sliding_window": 3,
        "sliding_window_pattern": 2,
    },
)
LAYER_TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
NEW_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 2.5, "rope_theta": 70_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
}

LLAMA3_ROPE = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Small, so that the frequencies of these short heads fall into all three bands.
    "original_max_position_embeddings": 64,
}
ROPES: dict[str, JsonObject] = {
    "theta-500000": {"rope_theta": 500_000.0},
    "theta-absent": {},
    "null-scaling": {"rope_theta": 10_000.0, "rope_scaling": None},
    "linear-type": {"rope_theta": 10_000.0, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "linear-rope-type": {"rope_theta": 10_000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.5}},
    "llama3": {"rope_theta": 10_000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3_ROPE}},
    "parameters-default": {"rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
    "parameters-linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.5}},
    "parameters-llama3": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10_000.0, **LLAMA3_ROPE}},
}

ODD_SIZES: dict[str, Any] = {"hidden_size": 100, "intermediate_size": 102, "heads": 5, "kv_heads": 1}
"""Columns that are no multiple of 32, rows that are no multiple of 4 (102), five heads of 20."""


def with_every_dtype(name: str, spec: Spec) -> list[tuple[str, Spec]]:
    """The same spec stored in each float type."""
    return [(f"{name}-{dtype.lower()}", replace(spec, dtype=dtype)) for dtype in TORCH_NAMES]


def with_own_norms(name: str, spec: Spec) -> tuple[str, Spec]:
    """The same spec with a norm before every linear, whose eps is large enough to be seen."""
    return f"{name}-rms-norm", replace(spec, use_rms_norm=True, quantization_eps=0.05)


def kept_float(name: str, entries: Sequence[str], *floats: str, spec: Spec = LLAMA) -> tuple[str, Spec]:
    """A spec with modules_to_not_convert = `entries`, which keep the linears with `floats` in their names."""
    return f"not-convert-{name}", replace(spec, not_converted=tuple(entries), float_linears=floats)


FLOAT = replace(LLAMA, not_converted=("lm_head", "model.layers"), float_linears=("layers",))
"""Nothing is quantized, so results agree to float32's precision at any length."""

DIALECTS: list[tuple[str, Spec]] = [
    *with_every_dtype("bitnet-packed-multiply", Spec()),
    ("bitnet-packed-divide", Spec(linear_class="bitlinear")),
    ("bitnet-packed-bare", Spec(linear_class=None, mode=None)),
    ("bitnet-untied", Spec(tied=False)),
    *with_every_dtype("bitnet-online", ONLINE),
    *with_every_dtype("llama-packed-divide", LLAMA),
    ("llama-packed-bare", LLAMA_BARE),
    ("llama-packed-multiply", replace(LLAMA, linear_class="autobitlinear")),
    ("llama-tied", replace(LLAMA, tied=True)),
    *with_every_dtype("llama-online", LLAMA_ONLINE),
    with_own_norms("bitnet-multiply", Spec()),
    with_own_norms("bitnet-online", ONLINE),
    with_own_norms("llama-divide", LLAMA),
    ("llama-rms-norm-default-eps", replace(LLAMA, use_rms_norm=True)),
    kept_float("head", ["lm_head"]),
    kept_float("suffix", ["lm_head", "down_proj"], "down_proj"),
    kept_float("path", ["lm_head", "model.layers.0.self_attn.o_proj"], "layers.0.self_attn.o_proj"),
    kept_float("layer", ["lm_head", "model.layers.1"], "layers.1."),
    kept_float("pattern", ["lm_head", "model.layers.*.mlp.up_proj"], "up_proj"),
    # A part of a path, a name cut short and a tensor's name: none of them names a module.
    kept_float("nothing", ["lm_head", "mlp", "model.layers.0.mlp.gate", "mlp.gate_proj.weight"]),
    ("not-convert-everything", FLOAT),
    kept_float("bias", ["lm_head", "model.layers.*.mlp"], "mlp", spec=replace(LLAMA, mlp_bias=True)),
    with_own_norms(*kept_float("llama", ["lm_head", "self_attn.q_proj"], "self_attn.q_proj")),
    kept_float("online", ["lm_head", "k_proj"], "k_proj", spec=ONLINE),
    ("llama-bias-divide", replace(LLAMA, attention_bias=True, mlp_bias=True)),
    ("llama-bias-online", replace(LLAMA_ONLINE, attention_bias=True, mlp_bias=True)),
    ("llama-bias-attention-only", replace(LLAMA, attention_bias=True)),
    ("llama-bias-mlp-only", replace(LLAMA, mlp_bias=True)),
    ("bitnet-bias-divide", Spec(linear_class="bitlinear", attention_bias=True)),
    ("bitnet-bias-online", replace(ONLINE, attention_bias=True)),
    # AutoBitLinear multiplies the bias by weight_scale as well.
    ("bitnet-bias-multiply", Spec(attention_bias=True)),
    ("heads-6-over-3", Spec(hidden_size=96, heads=6, kv_heads=3)),
    ("heads-6-over-1", Spec(hidden_size=96, heads=6, kv_heads=1)),
    ("heads-4-over-4", Spec(kv_heads=4)),
    ("heads-kv-absent", replace(LLAMA, kv_heads=None)),
    ("head-dim-larger", replace(LLAMA, head_dim=24)),
    ("head-dim-smaller", replace(LLAMA, head_dim=10)),
    ("head-dim-equal", Spec(head_dim=16)),
    ("odd-sizes-bitnet", Spec(**ODD_SIZES)),
    ("odd-sizes-llama", replace(LLAMA, **ODD_SIZES, head_dim=24)),
    ("odd-sizes-online", replace(ONLINE, **ODD_SIZES)),
    (
        "odd-sizes-rows",
        replace(LLAMA, hidden_size=54, intermediate_size=77, heads=3, kv_heads=1, vocab_size=301),
    ),
    *((f"rope-{name}", replace(LLAMA, rope=rope)) for name, rope in ROPES.items()),
    ("rope-bitnet-theta-absent", Spec(rope={})),
    ("rope-bitnet-llama3", Spec(rope=ROPES["llama3"])),
    ("eps-large-bitnet", Spec(rms_norm_eps=0.05)),
    ("eps-large-llama", replace(LLAMA, rms_norm_eps=0.05)),
    *((f"act-{act}-bitnet", Spec(hidden_act=act)) for act in ("silu", "gelu")),
    *((f"act-{act}-llama", replace(LLAMA, hidden_act=act)) for act in ("relu2", "gelu")),
    *with_every_dtype("1bitllm", ONE_BIT_LLM),
    ("1bitllm-untied-sharded", replace(ONE_BIT_LLM, tied=False, shards=2)),
    *((f"trilm-parts-{parts}", replace(TRILM, parts=parts)) for parts in (1, 2, 4)),
    ("trilm-parts-3", replace(TRILM, parts=3, hidden_size=192, intermediate_size=288)),
    *with_every_dtype("trilm", TRILM),
    ("trilm-tied-bias", replace(TRILM, tied=True, attention_bias=True, mlp_bias=True)),
    *((f"groups-{group}", replace(TRILM, parts=0, group=group)) for group in (32, 64)),
    (
        "groups-128-qwen3",
        replace(
            QWEN3,
            own_norms=False,
            bare=False,
            tied=False,
            group=128,
            hidden_size=256,
            intermediate_size=384,
            head_dim=64,
        ),
    ),
    *with_every_dtype("qwen3", QWEN3),
    ("qwen3-whole-names-bias", replace(QWEN3, bare=False, attention_bias=True, tied=False)),
    ("qwen3-section", replace(QWEN3, has_section=True)),
    *with_every_dtype("gemma3", GEMMA3),
    ("gemma3-layer-types", replace(GEMMA3, bare=False, extra={**GEMMA3.extra, "layer_types": LAYER_TYPES})),
    ("gemma3-new-ropes", replace(GEMMA3, rope={"rope_parameters": NEW_ROPES})),
    ("sharded-packed", Spec(shards=3)),
    ("sharded-online", replace(LLAMA_ONLINE, shards=2)),
    (
        "unaligned",
        replace(
            LLAMA, hidden_size=99, intermediate_size=100, heads=3, kv_heads=1, head_dim=24, aligned=False
        ),
    ),
]
