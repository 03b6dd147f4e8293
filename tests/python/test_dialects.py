"""Every dialect loads and computes what the oracle computes; every contradiction is refused with a reason."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from checkpoints import (
    DIALECTS,
    FLOAT,
    GEMMA3,
    LLAMA,
    ONLINE,
    QWEN3,
    TRILM,
    Array,
    JsonObject,
    Spec,
    Stored,
    build,
    encode,
    read_safetensors,
    write_json,
    write_safetensors,
)
from reference import assert_agreement, forward

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FIRST_SHARD, LAST_SHARD = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
GATE = "model.layers.1.mlp.gate_proj"
Mutation = Callable[[Path], None]


def random_prompts(vocab_size: int, *shape: int) -> list[list[int]]:
    """Token ids [prompts, length], the same for the same arguments."""
    prompts: list[list[int]] = np.random.default_rng(0).integers(0, vocab_size, shape).tolist()
    return prompts


def compare(
    path: Path, checkpoint: tuple[JsonObject, dict[str, Array]], prompts: list[list[int]], share: float = 0.5
) -> None:
    """The loaded model against the oracle, with logits of about 1."""
    model = bn.load(path)
    logits = [model.logits(ids) for ids in prompts]
    assert all(rows.dtype == np.float32 for rows in logits)
    config, tensors = checkpoint
    expected = [forward(config, tensors, ids) for ids in prompts]
    assert_agreement(logits, expected, tolerance=2e-3, share=share)


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in DIALECTS])
def test_logits_match_the_reference(tmp_path: Path, spec: Spec) -> None:
    compare(tmp_path, build(tmp_path, spec), random_prompts(spec.vocab_size, 8, 8))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 16, 33, 130])
@pytest.mark.parametrize(
    ("spec", "share"),
    [
        # A rounding tie in an early token reaches all later ones: few positions are sure to be exact.
        pytest.param(Spec(), 0.0, id="packed"),
        pytest.param(FLOAT, 1.0, id="float"),
    ],
)
def test_logits_of_any_length(tmp_path: Path, spec: Spec, share: float, length: int) -> None:
    compare(tmp_path, build(tmp_path, spec), random_prompts(spec.vocab_size, 1, length), share)


def test_logits_with_a_tokenizer(tmp_path: Path, tiny: Path) -> None:
    compare(tmp_path, build(tmp_path, tokenizer=tiny, vocab_size=2048), random_prompts(2048, 8, 8))


def set_config(key: str, value: Any) -> Mutation:
    """Overwrite one key of config.json, or remove it when `value` is None; a dot reaches into an object."""

    def mutate(folder: Path) -> None:
        config: JsonObject = json.loads((folder / CONFIG).read_text())
        *parents, last = key.split(".")
        target = config
        for parent in parents:
            target = target[parent]
        target[last] = value
        if value is None:
            del target[last]
        write_json(folder / CONFIG, config)

    return mutate


def edit_tensors(change: Callable[[dict[str, Stored]], object]) -> Mutation:
    """Rewrite model.safetensors after `change` has worked on its tensors."""

    def mutate(folder: Path) -> None:
        tensors = read_safetensors(folder / WEIGHTS)
        change(tensors)
        write_safetensors(folder / WEIGHTS, tensors)

    return mutate


def remove(name: str) -> Mutation:
    """Leave one tensor out."""
    return edit_tensors(lambda tensors: tensors.pop(name))


def replace_with(name: str, values: Array, dtype: str = "BF16") -> Mutation:
    """Put other values, shape and dtype in the place of one tensor."""
    return edit_tensors(lambda tensors: tensors.update({name: encode(values, dtype)}))


def set_first(name: str, value: float) -> Mutation:
    """Overwrite the first element of one tensor."""

    def change(tensors: dict[str, Stored]) -> None:
        dtype, array = tensors[name]
        flat = array.flatten()
        flat[0] = encode(np.array([value]), dtype).array[0]
        tensors[name] = Stored(dtype, flat.reshape(array.shape))

    return edit_tensors(change)


def set_header(change: Callable[[JsonObject], object]) -> Mutation:
    """Rewrite the JSON header of model.safetensors, leaving the data as it is."""

    def mutate(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack_from("<Q", content)
        header: JsonObject = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return mutate


def set_bytes(change: Callable[[bytes], bytes], file: str = WEIGHTS) -> Mutation:
    """Rewrite a file byte by byte."""

    def mutate(folder: Path) -> None:
        (folder / file).write_bytes(change((folder / file).read_bytes()))

    return mutate


def map_tensor(name: str, file: str) -> Mutation:
    """Let the index say that `name` lies in the shard `file`."""

    def mutate(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"][name] = file
        write_json(folder / INDEX, index)

    return mutate


def swap_shard(name: str) -> Mutation:
    """Let the index say that `name` lies in the other one of two shards."""

    def mutate(folder: Path) -> None:
        here = json.loads((folder / INDEX).read_text())["weight_map"][name]
        map_tensor(name, FIRST_SHARD if here == LAST_SHARD else LAST_SHARD)(folder)

    return mutate


def unlink(file: str) -> Mutation:
    """Remove a file."""
    return lambda folder: (folder / file).unlink()


def case(name: str, spec: Spec, mutation: Mutation, *files: str) -> Any:
    """A checkpoint of `spec`, spoilt by `mutation`; the message must name one of `files`."""
    return pytest.param(spec, mutation, files, id=name)


PACKED, SHARDED = Spec(), Spec(shards=2)
FLOAT_GATE = np.random.default_rng(0).normal(size=(96, 64))

CONFIG_CASES = [
    case("no-config", PACKED, unlink(CONFIG), CONFIG),
    case("config-not-json", PACKED, set_bytes(lambda b: b[:-5], CONFIG), CONFIG),
    case("config-not-an-object", PACKED, set_bytes(lambda _: b"[]", CONFIG), CONFIG),
    case("no-hidden-size", PACKED, set_config("hidden_size", None), CONFIG),
    case("hidden-size-zero", PACKED, set_config("hidden_size", 0), CONFIG),
    case("hidden-size-text", PACKED, set_config("hidden_size", "64"), CONFIG),
    case("layers-negative", PACKED, set_config("num_hidden_layers", -1), CONFIG),
    case("unknown-model-type", PACKED, set_config("model_type", "resnet"), CONFIG),
    case("llama-not-quantized", LLAMA, set_config("quantization_config", None), CONFIG),
    case("other-quant-method", PACKED, set_config("quantization_config.quant_method", "gptq"), CONFIG),
    case("unknown-linear-class", PACKED, set_config("quantization_config.linear_class", "trilinear"), CONFIG),
    case("unknown-mode", PACKED, set_config("quantization_config.quantization_mode", "sideways"), CONFIG),
    case("unknown-activation", PACKED, set_config("hidden_act", "sine"), CONFIG),
    case("unknown-rope-type", PACKED, set_config("rope_scaling", {"rope_type": "spiral"}), CONFIG),
    case("linear-rope-without-factor", PACKED, set_config("rope_scaling", {"type": "linear"}), CONFIG),
    case(
        "llama3-rope-incomplete",
        PACKED,
        set_config("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        CONFIG,
    ),
    case("kv-heads-do-not-divide", PACKED, set_config("num_key_value_heads", 3), CONFIG, WEIGHTS),
    case("odd-head-dim", LLAMA, set_config("head_dim", 15), CONFIG, WEIGHTS),
]

LAYERS = ["full_attention"] * GEMMA3.layers
FAMILY_CASES = [
    case("layer-types-too-few", GEMMA3, set_config("layer_types", LAYERS[1:]), CONFIG),
    case(
        "layer-types-unknown", GEMMA3, set_config("layer_types", ["chunked_attention", *LAYERS[1:]]), CONFIG
    ),
    case("window-zero", GEMMA3, set_config("sliding_window", 0), CONFIG),
    case("pattern-zero", GEMMA3, set_config("sliding_window_pattern", 0), CONFIG),
    case("layers-without-number", GEMMA3, set_config("num_hidden_layers", 2**31 - 1), WEIGHTS),
    case("softcapping", GEMMA3, set_config("final_logit_softcapping", 30.0), CONFIG),
    case("bidirectional", GEMMA3, set_config("use_bidirectional_attention", True), CONFIG),
    case("query-scalar-negative", GEMMA3, set_config("query_pre_attn_scalar", -1), CONFIG),
    case("window-of-qwen3", QWEN3, set_config("use_sliding_window", True), CONFIG),
    case("layer-types-of-qwen3", QWEN3, set_config("layer_types", ["sliding_attention"] * 2), CONFIG),
    case("own-norm-missing", QWEN3, remove("layers.1.mlp.up_proj.norm.weight"), WEIGHTS),
    case("head-norm-missing", QWEN3, remove("layers.1.self_attn.k_norm.weight"), WEIGHTS),
    case("ternary-but-one", TRILM, set_first(f"{GATE}.weight", 7.0), CONFIG),
    case("ternary-packed", TRILM, replace_with(f"{GATE}.weight", np.zeros((48, 128)), "U8"), CONFIG),
]

WEIGHT_CASES = [
    case("no-weights", PACKED, unlink(WEIGHTS), ".safetensors"),
    case("missing-weight", PACKED, remove(f"{GATE}.weight"), WEIGHTS),
    case("missing-scale", PACKED, remove(f"{GATE}.weight_scale"), WEIGHTS),
    case("missing-norm", PACKED, remove("model.norm.weight"), WEIGHTS),
    case("missing-sub-norm", PACKED, remove("model.layers.0.mlp.ffn_sub_norm.weight"), WEIGHTS),
    case("missing-head", Spec(tied=False), remove("lm_head.weight"), WEIGHTS),
    case(
        "missing-bias",
        replace(LLAMA, attention_bias=True),
        remove("model.layers.0.self_attn.q_proj.bias"),
        WEIGHTS,
    ),
    case("missing-own-norm", Spec(use_rms_norm=True), remove(f"{GATE}.rms_norm.weight"), WEIGHTS),
    case("packed-rows", PACKED, replace_with(f"{GATE}.weight", np.zeros((23, 64)), "U8"), WEIGHTS),
    case("packed-columns", PACKED, replace_with(f"{GATE}.weight", np.zeros((24, 63)), "U8"), WEIGHTS),
    case("packed-not-a-matrix", PACKED, replace_with(f"{GATE}.weight", np.zeros(24 * 64), "U8"), WEIGHTS),
    case("unpacked-rows", PACKED, replace_with(f"{GATE}.weight", np.ones((96, 64)), "U8"), WEIGHTS),
    case("norm-length", PACKED, replace_with("model.norm.weight", np.ones(63)), WEIGHTS),
    case("norm-bytes", PACKED, replace_with("model.norm.weight", np.ones(64), "U8"), WEIGHTS),
    case("embedding-rows", PACKED, replace_with("model.embed_tokens.weight", np.ones((319, 64))), WEIGHTS),
    case("head-rows", LLAMA, replace_with("lm_head.weight", np.ones((319, 64))), WEIGHTS),
    case("two-scales", PACKED, replace_with(f"{GATE}.weight_scale", np.ones(2)), WEIGHTS),
    case("code-3", PACKED, set_first(f"{GATE}.weight", 0b01_01_11_01), WEIGHTS),
    case("scale-nan", PACKED, set_first(f"{GATE}.weight_scale", np.nan), WEIGHTS),
    case("scale-infinite", PACKED, set_first(f"{GATE}.weight_scale", np.inf), WEIGHTS),
    case("scale-zero-multiply", PACKED, set_first(f"{GATE}.weight_scale", 0.0), WEIGHTS),
    case("scale-zero-divide", LLAMA, set_first(f"{GATE}.weight_scale", 0.0), WEIGHTS),
    case("master-nan", ONLINE, set_first(f"{GATE}.weight", np.nan), WEIGHTS),
    case("offline-float", PACKED, replace_with(f"{GATE}.weight", FLOAT_GATE), CONFIG, WEIGHTS),
    case(
        "offline-all-float",
        ONLINE,
        set_config("quantization_config.quantization_mode", "offline"),
        CONFIG,
        WEIGHTS,
    ),
    case(
        "online-packed",
        PACKED,
        set_config("quantization_config.quantization_mode", "online"),
        CONFIG,
        WEIGHTS,
    ),
    case(
        "kept-float-packed",
        PACKED,
        set_config("quantization_config.modules_to_not_convert", ["lm_head", "gate_proj"]),
        CONFIG,
        WEIGHTS,
    ),
    case("converted-float", LLAMA, replace_with(f"{GATE}.weight", FLOAT_GATE), CONFIG, WEIGHTS),
]

FILE_CASES = [
    case("empty", PACKED, set_bytes(lambda _: b""), WEIGHTS),
    case("truncated-length", PACKED, set_bytes(lambda b: b[:7]), WEIGHTS),
    case("truncated-header", PACKED, set_bytes(lambda b: b[:100]), WEIGHTS),
    case("truncated-data", PACKED, set_bytes(lambda b: b[:-100]), WEIGHTS),
    case("trailing-data", PACKED, set_bytes(lambda b: b + bytes(100)), WEIGHTS),
    case("huge-header-length", PACKED, set_bytes(lambda b: b"\xff" * 8 + b[8:]), WEIGHTS),
    case("header-not-json", PACKED, set_bytes(lambda b: b[:8] + b"x" + b[9:]), WEIGHTS),
    case(
        "shape-too-large", PACKED, set_header(lambda h: h["model.norm.weight"].update(shape=[2**40])), WEIGHTS
    ),
    case("unknown-dtype", PACKED, set_header(lambda h: h["model.norm.weight"].update(dtype="Q7")), WEIGHTS),
    case(
        "overlap", PACKED, set_header(lambda h: h["model.norm.weight"].update(data_offsets=[0, 128])), WEIGHTS
    ),
    case(
        "backwards",
        PACKED,
        set_header(lambda h: h["model.norm.weight"].update(data_offsets=[128, 0])),
        WEIGHTS,
    ),
]

SHARD_CASES = [
    case("missing-shard", SHARDED, unlink(LAST_SHARD), LAST_SHARD),
    case("truncated-shard", SHARDED, set_bytes(lambda b: b[:-100], LAST_SHARD), LAST_SHARD),
    case(
        "absent-extra-shard",
        SHARDED,
        map_tensor("model.extra.weight", "model-00003-of-00003.safetensors"),
        "00003",
    ),
    case("tensor-in-other-shard", SHARDED, swap_shard("model.norm.weight"), FIRST_SHARD, LAST_SHARD, INDEX),
    case("shard-no-weights", SHARDED, map_tensor("model.norm.weight", CONFIG), CONFIG, INDEX),
    case("shard-outside", SHARDED, map_tensor("model.norm.weight", f"../{FIRST_SHARD}"), FIRST_SHARD, INDEX),
    case("index-not-json", SHARDED, set_bytes(lambda b: b[:-5], INDEX), INDEX),
    case("index-without-map", SHARDED, set_bytes(lambda _: b"{}", INDEX), INDEX),
]


@pytest.mark.parametrize(
    ("spec", "mutation", "files"), CONFIG_CASES + FAMILY_CASES + WEIGHT_CASES + FILE_CASES + SHARD_CASES
)
def test_contradictions_are_refused(
    tmp_path: Path, spec: Spec, mutation: Mutation, files: tuple[str, ...]
) -> None:
    build(tmp_path, spec)
    mutation(tmp_path)
    with pytest.raises(bn.BitNetError) as caught:
        bn.load(tmp_path)
    message = str(caught.value)
    assert message.strip()
    assert len(message.splitlines()) == 1
    assert any(file in message for file in files)
