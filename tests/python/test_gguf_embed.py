"""GGUF files of BitNet embedding models give what the folders they come from give, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import bitnet_rust as bn
import gguf
import gguf_files
import numpy as np
import pytest
from checkpoints import (
    GEMMA3,
    QWEN3,
    Array,
    JsonObject,
    Spec,
    build,
    decode,
    encode,
    end_texts,
    read_safetensors,
    write_safetensors,
)

Keys = Callable[[gguf.GGUFWriter], None]

# Whole groups of I2_S, and heads that are wider than their share of the hidden size.
WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 96}
IDS = [5, 77, 300, 12, 12, 250, 9, 31]
TEXTS = ["My fellow citizens", "", "the 1st of May\n", "it's <|eot_id|> union " * 30]
MATRICES = {"i2_s": gguf_files.add_i2_s, "masters": None}


def gemma(**extra: Any) -> Spec:
    """A Gemma with these keys of config.json."""
    common = {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 96}
    return replace(GEMMA3, extra={**common, **extra}, rope={"rope_theta": 1e6})


def window(size: int, pattern: int | None = None, theta: float | None = None) -> Keys:
    """The keys of layers that see a window."""

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("none")
        writer.add_sliding_window(size)
        if pattern is not None:
            writer.add_sliding_window_pattern(pattern)
        if theta is not None:
            writer.add_rope_freq_base_swa(theta)

    return add


MODELS = [
    pytest.param(QWEN3, None, id="qwen3"),
    pytest.param(
        gemma(sliding_window=3, sliding_window_pattern=2, rope_local_base_freq=700.0),
        window(3, 2, 700.0),
        id="gemma3-keys",
    ),
    # Every sixth layer sees all positions, and the others turn by a base of 10000.
    pytest.param(replace(gemma(sliding_window=3), layers=7), window(3), id="gemma3-defaults"),
    pytest.param(gemma(layer_types=["full_attention"] * 4), None, id="gemma3-no-window"),
]


def build_exact(path: Path, spec: Spec, **changes: Any) -> tuple[JsonObject, dict[str, Array]]:
    """A checkpoint whose norms float16 holds, with 1 added and without."""
    config, _ = build(path, spec, **WIDE, **changes)
    file = path / "model.safetensors"
    stored = read_safetensors(file)
    for name, tensor in stored.items():
        if name.endswith("norm.weight"):
            stored[name] = encode(np.round(decode(tensor) * 64) / 64, tensor.dtype)
    write_safetensors(file, stored)
    return config, {name: decode(tensor) for name, tensor in stored.items()}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("spec", "keys"), MODELS)
def test_a_file_is_the_folder_it_comes_from(
    tmp_path: Path, spec: Spec, keys: Keys | None, matrix: str
) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build_exact(tmp_path / "hf", spec)
    gguf_files.write_embedder(path, config, tensors, linear=MATRICES[matrix], keys=keys)
    ours, theirs = bn.load(path), bn.load(tmp_path / "hf")
    assert ours.config.architecture == theirs.config.architecture
    assert ours.config.hidden_act == theirs.config.hidden_act
    np.testing.assert_array_equal(ours.logits(IDS), theirs.logits(IDS))


@pytest.mark.parametrize("keys", [window(4, 2, 700.0), window(3, 3, 700.0), window(3, 2, 70.0), None])
def test_windows_of_another_file_are_other_windows(tmp_path: Path, keys: Keys | None) -> None:
    path = tmp_path / "x.gguf"
    spec = gemma(sliding_window=3, sliding_window_pattern=2, rope_local_base_freq=700.0)
    config, tensors = build_exact(tmp_path / "hf", spec)
    gguf_files.write_embedder(path, config, tensors, keys=keys)
    assert np.abs(bn.load(path).logits(IDS) - bn.load(tmp_path / "hf").logits(IDS)).max() > 1e-4


@pytest.mark.parametrize("linear", [gguf_files.add_i2_s, gguf_files.tq2_0])
@pytest.mark.parametrize("spec", [QWEN3, gemma(layer_types=["full_attention"] * 4)], ids=["qwen3", "gemma3"])
def test_ternary_models_of_these_families_need_no_norms_of_their_own(
    tmp_path: Path, spec: Spec, linear: Any
) -> None:
    path = tmp_path / "x.gguf"
    # With eight heads, rows are whole blocks of 256.
    plain = replace(spec, own_norms=False, has_section=True, mode="offline", heads=8)
    config, tensors = build_exact(tmp_path / "hf", plain)
    gguf_files.write_embedder(path, config, tensors, linear=linear)
    np.testing.assert_array_equal(bn.load(path).logits(IDS), bn.load(tmp_path / "hf").logits(IDS))


def tokenizer_of(tiny: Path, folder: Path, end: int, pooling: gguf.PoolingType | None) -> Keys:
    """The tokenizer of bitnet-tiny, which puts `end` behind every text, and a pooling."""
    if not (folder / "tiny.gguf").exists():
        bn.convert(tiny, folder / "tiny.gguf", to="gguf-tq2_0", head="bf16")
    fields = gguf.GGUFReader(folder / "tiny.gguf").fields
    tokens, types, merges = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges")
    )

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges(merges)
        writer.add_eos_token_id(end)
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(True)
        if pooling is not None:
            writer.add_pooling_type(pooling)

    return add


@pytest.mark.parametrize("spec", [QWEN3, gemma(layer_types=["full_attention"] * 4)], ids=["qwen3", "gemma3"])
def test_texts_have_the_same_ids_and_vectors(tmp_path: Path, tiny: Path, spec: Spec) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build_exact(tmp_path / "hf", spec, tokenizer=tiny, vocab_size=2048)
    end = end_texts(tmp_path / "hf")
    theirs = bn.load(tmp_path / "hf")
    for pooling in (gguf.PoolingType.LAST, None):
        keys = tokenizer_of(tiny, tmp_path, end, pooling)
        gguf_files.write_embedder(path, config, tensors, linear=gguf_files.add_i2_s, keys=keys)
        ours = bn.load(path)
        for text in TEXTS:
            ids = theirs.tokenizer.encode(text)
            assert ids[-1] == end
            assert ours.tokenizer.encode(text) == ids
        np.testing.assert_array_equal(ours.embed(TEXTS), theirs.embed(TEXTS))


@pytest.mark.parametrize("pooling", ["NONE", "MEAN", "CLS", "RANK"])
def test_a_pooling_that_is_another_or_in_doubt_is_refused_unless_the_user_knows_better(
    tmp_path: Path, tiny: Path, pooling: str
) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build_exact(tmp_path / "hf", QWEN3, tokenizer=tiny, vocab_size=2048)
    keys = tokenizer_of(tiny, tmp_path, end_texts(tmp_path / "hf"), gguf.PoolingType[pooling])
    gguf_files.write_embedder(path, config, tensors, keys=keys)
    number = gguf.PoolingType[pooling].value
    message = (
        rf'x\.gguf: asks .* pooling_type {number} \({pooling.lower()}\); .* gguf="pooling=last" takes it$'
    )
    with pytest.raises(bn.ConfigError, match=message):
        bn.load(path).embed("a")
    ours, theirs = bn.load(path, gguf="pooling=last"), bn.load(tmp_path / "hf")
    np.testing.assert_array_equal(ours.embed(TEXTS), theirs.embed(TEXTS))
    poolings: list[Literal["last", "mean"]] = ["last", "mean"]
    for known in poolings:
        np.testing.assert_array_equal(
            bn.load(path).embed(TEXTS, pooling=known), theirs.embed(TEXTS, pooling=known)
        )
    with pytest.raises(bn.OptionError, match="gguf must be pooling=last, not pooling=mean"):
        bn.load(path, gguf="pooling=mean")


def test_a_sentence_piece_vocabulary_without_a_space_in_front(tmp_path: Path) -> None:
    """The fixture has what SentencePiece makes of texts with one."""
    fixture = json.loads((Path(__file__).parent.parent / "fixtures" / "sentencepiece.json").read_text())
    path = tmp_path / "x.gguf"

    def keys(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(fixture["tokens"])
        writer.add_token_scores(fixture["scores"])
        writer.add_token_types(fixture["kinds"])
        writer.add_add_space_prefix(False)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(True)

    spec = gemma(layer_types=["full_attention"] * 4)
    config, tensors = build_exact(tmp_path / "hf", spec, vocab_size=len(fixture["tokens"]))
    gguf_files.write_embedder(path, config, tensors, keys=keys)
    model = bn.load(path)
    for case in fixture["cases"]:
        space = " " if case["text"] else ""
        assert model.tokenizer.encode(space + case["text"]) == [1, *case["ids"], 2]
    assert model.embed(["a", " a"]).shape == (2, 256)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"blk.1.attn_k_norm_in.weight": None}, r"blk\.1\.attn_k_norm_in\.weight"),
    ({"blk.0.attn_q_norm_in.weight": None}, r"blk\.0\.attn_q_norm_in\.weight"),
    ({"blk.1.ffn_down_norm_in.weight": None}, r"blk\.1\.ffn_down_norm_in\.weight"),
    ({"blk.0.attn_q_norm.weight": None}, r"blk\.0\.attn_q_norm\.weight"),
    ({"blk.1.ffn_norm.weight": None}, r"blk\.1\.ffn_norm\.weight"),
    (
        {"blk.1.attn_output_norm_in.weight": np.ones(256, np.float16)},
        r"tensor blk\.1\.attn_output_norm_in\.weight: has shape \[256\]; the config asks for \[384\]",
    ),
    (
        {"blk.0.attn_k_norm.weight": np.ones(95, np.float16)},
        r"tensor blk\.0\.attn_k_norm\.weight: has shape \[95\]; the config asks for \[96\]",
    ),
    (
        {"blk.0.attn_v_norm_in.weight": np.full(256, np.inf, np.float16)},
        r"tensor blk\.0\.attn_v_norm_in\.weight: element 0 is not finite",
    ),
]


@pytest.mark.parametrize("spec", [QWEN3, gemma(layer_types=["full_attention"] * 4)], ids=["qwen3", "gemma3"])
@pytest.mark.parametrize(("instead", "message"), WRONG)
def test_a_norm_that_is_not_there_or_not_right_is_named(
    tmp_path: Path, spec: Spec, instead: dict[str, Any], message: str
) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build_exact(tmp_path / "hf", spec)
    gguf_files.write_embedder(path, config, tensors, linear=gguf_files.add_i2_s, instead=instead)
    with pytest.raises(bn.BitNetError, match=message) as refused:
        bn.load(path)
    assert "\n" not in str(refused.value)


def with_key(key: str, add: Callable[[gguf.GGUFWriter, str], None]) -> Keys:
    """A key of the architecture."""

    def keys(writer: gguf.GGUFWriter) -> None:
        window(3)(writer)
        add(writer, f"gemma3.{key}")

    return keys


REFUSED = [
    (
        with_key("attention.causal", lambda w, key: w.add_bool(key, False)),
        "use_bidirectional_attention is not",
    ),
    (
        with_key("final_logit_softcapping", lambda w, key: w.add_float32(key, 30)),
        "final_logit_softcapping is",
    ),
    (window(3, 0), "sliding_window_pattern cannot be 0"),
    (window(3, None, -1.0), "rope_local_base_freq cannot be -1"),
    (with_key("pooling_type", lambda w, key: w.add_string(key, "last")), 'key "gemma3.pooling_type", byte'),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_what_is_not_computed_is_refused(tmp_path: Path, keys: Keys, message: str) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build_exact(tmp_path / "hf", gemma(sliding_window=3))
    gguf_files.write_embedder(path, config, tensors, keys=keys)
    with pytest.raises(bn.BitNetError, match=message):
        bn.load(path)


def test_plain_models_are_told_apart_and_no_folder_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build_exact(tmp_path / "hf", replace(QWEN3, own_norms=False))
    gguf_files.write_embedder(path, config, tensors)
    with pytest.raises(bn.ConfigError, match="has no ternary matrix: a plain qwen3 model, not a BitNet one"):
        bn.load(path)
    build_exact(tmp_path / "own", QWEN3)
    with pytest.raises(bn.CheckpointError, match="writing such models is not supported yet"):
        bn.convert(tmp_path / "own", tmp_path / "y", to="hf")


@pytest.mark.parametrize(("spec", "keys"), MODELS)
def test_what_is_read_is_written(tmp_path: Path, spec: Spec, keys: Keys | None) -> None:
    """From a folder and from a file to one with the names and numbers of the other converter."""
    folder, source = tmp_path / "hf", tmp_path / "source.gguf"
    # With eight heads, rows are whole blocks of 256.
    config, tensors = build_exact(folder, replace(spec, heads=8))
    gguf_files.write_embedder(source, config, tensors, linear=gguf_files.tq2_0, keys=keys)
    # Scales of absmean are float32, which this form rounds and I2_S keeps.
    bn.convert(folder, tmp_path / "x.gguf", to="gguf-tq2_0", lossy=True)
    bn.convert(source, tmp_path / "again.gguf", to="gguf-tq2_0")
    bn.convert(folder, tmp_path / "exact.gguf", to="gguf-i2_s")
    theirs, ours, again = (gguf.GGUFReader(tmp_path / f"{name}.gguf") for name in ("source", "x", "again"))
    assert {tensor.name for tensor in ours.tensors} == {tensor.name for tensor in theirs.tensors}
    prefix = f"{theirs.fields['general.architecture'].contents()}."
    for name, field in theirs.fields.items():
        assert not name.startswith(prefix) or ours.fields[name].contents() == field.contents(), name
    for one, other in zip(ours.tensors, again.tensors, strict=True):
        assert (one.name, one.data.tobytes()) == (other.name, other.data.tobytes())
    np.testing.assert_array_equal(bn.load(tmp_path / "exact.gguf").logits(IDS), bn.load(folder).logits(IDS))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            gemma(layer_types=["full_attention", "sliding_attention"] * 2),
            "layers that are not all but",
        ),
        (
            replace(gemma(), extra={**gemma().extra, "query_pre_attn_scalar": 50}),
            "scores its queries by an",
        ),
    ],
)
def test_what_has_no_key_is_not_written(tmp_path: Path, spec: Spec, message: str) -> None:
    build_exact(tmp_path / "hf", spec)
    with pytest.raises(bn.CheckpointError, match=message):
        bn.convert(tmp_path / "hf", tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("spec", [QWEN3, gemma(layer_types=["full_attention"] * 4)], ids=["qwen3", "gemma3"])
def test_vectors_survive_the_way_to_a_file(tmp_path: Path, tiny: Path, spec: Spec) -> None:
    build_exact(tmp_path / "hf", replace(spec, heads=8), tokenizer=tiny, vocab_size=2048)
    end = end_texts(tmp_path / "hf")
    pooling = tmp_path / "hf" / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    bn.convert(tmp_path / "hf", tmp_path / "x.gguf")
    bn.convert(tmp_path / "hf", tmp_path / "rounded.gguf", to="gguf-tq2_0", lossy=True)
    fields = gguf.GGUFReader(tmp_path / "rounded.gguf").fields
    assert fields["tokenizer.ggml.eos_token_id"].contents() == end
    name = fields["general.architecture"].contents()
    assert fields[f"{name}.pooling_type"].contents() == gguf.PoolingType.LAST.value
    ours, theirs = bn.load(tmp_path / "x.gguf"), bn.load(tmp_path / "hf")
    np.testing.assert_array_equal(ours.embed(TEXTS), theirs.embed(TEXTS))
    (pooling / "config.json").write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))
    with pytest.raises(bn.CheckpointError, match="asks for a pooling that GGUF has no number for"):
        bn.convert(tmp_path / "hf", tmp_path / "y.gguf")
