"""GGUF files: those of other tools are read as they were meant, and other tools read what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import gguf
import gguf_files
import numpy as np
import numpy.typing as npt
import pytest
from checkpoints import LLAMA, LLAMA3_ROPE, ROPES, Array, JsonObject, Spec, build, load
from compare import tq
from gguf import GGMLQuantizationType as Type

# Rows of whole blocks in every format, and a scale that float16 holds.
WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "heads": 4, "kv_heads": 2}
IDS = [5, 77, 300, 12, 12, 250, 9]
FILES = [
    "bitnet-tiny.i2_s",
    "bitnet-tiny.tq1_0",
    "bitnet-tiny.tq2_0",
    "bitnet-mini.i2_s",
    "bitnet-mini.tq2_0",
]


def bitnet(*args: str | Path) -> str:
    """What the command prints, which must succeed."""
    command = ["-c", "from bitnet_rust._cli import main; raise SystemExit(main())", *map(str, args)]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True).stdout


def convert(*args: str | Path) -> None:
    """`bitnet convert`."""
    bitnet("convert", *args)


def write(path: Path, folder: Path, spec: Spec | None = None, **options: Any) -> npt.NDArray[np.float32]:
    """A random checkpoint in `folder`, written as GGUF to `path`; returns the logits of the folder."""
    config, tensors = build(folder, spec, **WIDE)
    if "architecture" not in options and config["model_type"] == "llama":
        options["architecture"] = "llama"
    gguf_files.write(path, config, tensors, **options)
    return bn.load(folder).logits(IDS)


@pytest.mark.parametrize("name", FILES)
def test_files_of_trained_models_give_the_golden_tokens(shared: Path, name: str) -> None:
    model = bn.load(shared / "models" / "gguf" / f"{name}.gguf")
    base = name.split(".")[0]
    golden = json.loads((shared / "golden" / f"{base}.json").read_text())
    folder = bn.load(shared / "models" / base)
    for prompt in golden["prompts"]:
        assert model.tokenizer.encode(prompt["text"]) == prompt["ids"]
        # float16 has fewer bits than bfloat16 for the smallest weights of the embedding. The most that comes
        # of it is an activation rounded to another integer, and that is rare.
        difference = np.abs(model.logits(prompt["ids"]) - folder.logits(prompt["ids"]))
        assert np.median(difference) < 1e-6
        assert difference.max() < 0.1
    assert model.apply_chat_template(golden["chat"]["messages"]) == golden["chat"]["rendered"]
    assert model.config.eos_token_ids == folder.config.eos_token_ids


@pytest.mark.parametrize("base", ["bitnet-tiny", "bitnet-mini"])
def test_the_tokenizer_is_that_of_the_folder(shared: Path, base: str) -> None:
    ours = bn.load(shared / "models" / "gguf" / f"{base}.i2_s.gguf").tokenizer
    theirs = bn.load(shared / "models" / base).tokenizer
    texts = [path.read_text() for path in sorted((shared / "data").glob("*.txt"))]
    texts += [
        "",
        " ",
        "\n\n  x",
        "it's I'LL 12345",
        "Tränen 日本語 🙂 \u200b",
        "<|eot_id|>User: a<|begin_of_text|>",
    ]
    for text in texts:
        ids = theirs.encode(text)
        assert ours.encode(text) == ids
        assert ours.decode(ids, skip_special_tokens=False) == theirs.decode(ids, skip_special_tokens=False)


LINEARS = {
    "tq2_0": gguf_files.tq2_0,
    "tq1_0": gguf_files.tq1_0,
    "f32": gguf_files.floats(np.float32),
}


@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "bitnet-25"])
@pytest.mark.parametrize("linear", LINEARS)
def test_files_of_gguf_py_are_read(tmp_path: Path, architecture: str, linear: str) -> None:
    path = tmp_path / "x.gguf"
    # bfloat16 scales of about 0.05 are float16 ones as well.
    expected = write(path, tmp_path / "hf", architecture=architecture, linear=LINEARS[linear])
    np.testing.assert_array_equal(bn.load(path).logits(IDS), expected)


def test_blocks_may_have_scales_of_their_own(tmp_path: Path) -> None:
    """Files of TriLM and others whose weights alone are ternary: nothing is rounded to int8."""

    def in_blocks(writer: gguf.GGUFWriter, name: str, codes: gguf_files.Bytes, scale: float) -> None:
        rows = [tq.tq2_0(row[None], scale * 2.0 ** (index % 3)) for index, row in enumerate(codes)]
        writer.add_tensor(name, np.concatenate(rows), raw_dtype=Type.TQ2_0)

    def as_floats(writer: gguf.GGUFWriter, name: str, codes: gguf_files.Bytes, scale: float) -> None:
        scales = np.float32(scale) * 2.0 ** (np.arange(len(codes), dtype=np.float32)[:, None] % 3)
        writer.add_tensor(name, (codes.astype(np.float32) - 1) * scales.astype(np.float32))

    for linear in (in_blocks, as_floats):
        write(tmp_path / f"{linear.__name__}.gguf", tmp_path / linear.__name__, linear=linear)
    blocks, floats = (bn.load(tmp_path / f"{name}.gguf") for name in ("in_blocks", "as_floats"))
    assert blocks.summary()["activations"] == floats.summary()["activations"] == "float"
    np.testing.assert_array_equal(blocks.logits(IDS), floats.logits(IDS))


@pytest.mark.parametrize("act", ["silu", "relu2"])
def test_the_label_bitnet_is_a_guess_that_can_be_changed(tmp_path: Path, act: str) -> None:
    path = tmp_path / "x.gguf"
    expected = write(path, tmp_path / "hf", Spec(hidden_act=act), architecture="bitnet")
    (decision,) = bn.load(path).summary()["decisions"]
    assert (decision["about"], decision["chosen"], decision["is_guess"]) == ("activation", "silu", True)
    model = bn.load(path, gguf=f"activation={act}")
    assert model.config.hidden_act == act
    np.testing.assert_array_equal(model.logits(IDS), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_queries_and_keys_of_llama_files_are_put_in_order(tmp_path: Path, bias: bool) -> None:
    spec = replace(LLAMA, linear_class="autobitlinear", attention_bias=bias)
    path = tmp_path / "x.gguf"
    config, tensors = build(tmp_path / "hf", spec, **WIDE)
    for name in tensors:
        # AutoBitLinear multiplies a bias by the scale, llama.cpp adds it as it is.
        if name.endswith(".bias"):
            tensors[name] = tensors[name] * tensors[name.replace(".bias", ".weight_scale")]
    gguf_files.write(path, config, tensors, architecture="llama")
    ours, theirs = bn.load(path), bn.load(tmp_path / "hf")
    assert (ours.config.architecture, ours.config.hidden_act) == ("llama", "silu")
    np.testing.assert_allclose(ours.logits(IDS), theirs.logits(IDS), atol=1e-6 if bias else 0)


@pytest.mark.parametrize("encoding", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0])
def test_embeddings_in_blocks_are_widened(tmp_path: Path, encoding: Type) -> None:
    config, tensors = build(tmp_path / "hf", Spec(dtype="F16"), **WIDE)
    matrix = tensors["model.embed_tokens.weight"].astype(np.float32)
    assert_widened(tmp_path, config, tensors, gguf.quantize(matrix, encoding).view(np.uint8), encoding)


@pytest.mark.parametrize(("encoding", "halves"), [(Type.Q4_K, (0, 2)), (Type.Q6_K, (208,))])
def test_embeddings_in_superblocks_are_widened(
    tmp_path: Path, encoding: Type, halves: tuple[int, ...]
) -> None:
    config, tensors = build(tmp_path / "hf", Spec(dtype="F16"), **WIDE)
    _, size = gguf.GGML_QUANT_SIZES[encoding]
    blocks = np.random.default_rng(0).integers(0, 256, (config["vocab_size"], size), np.uint8)
    for at in halves:
        blocks[:, at : at + 2] = np.linspace(1e-5, 1e-4, len(blocks), dtype="<f2")[:, None].view(np.uint8)
    # gguf-py decodes these, but does not encode them.
    assert_widened(tmp_path, config, tensors, blocks, encoding)


def assert_widened(
    folder: Path, config: JsonObject, tensors: dict[str, Array], encoded: gguf_files.Bytes, encoding: Type
) -> None:
    """An embedding in this encoding is what gguf-py makes of it, in float16 where it is in blocks."""
    path, plain = folder / "x.gguf", folder / "plain.gguf"
    gguf_files.write(path, config, tensors, embedding=(encoded, encoding))
    matrix = gguf.dequantize(encoded, encoding)
    if encoding != Type.BF16:
        matrix = matrix.astype(np.float16)
    gguf_files.write(plain, config, {**tensors, "model.embed_tokens.weight": matrix})
    np.testing.assert_array_equal(bn.load(path).logits(IDS), bn.load(plain).logits(IDS))


@pytest.mark.parametrize("base", ["bitnet-tiny", "bitnet-mini"])
def test_groups_of_arm_builds_are_detected(shared: Path, tmp_path: Path, base: str) -> None:
    published = shared / "models" / "gguf" / f"{base}.i2_s.gguf"
    content = bytearray(published.read_bytes())
    _, tensors = load(shared / "models" / base)
    for name in tensors:
        if name.endswith("_scale"):
            codes, scale = gguf_files.unpack(tensors[name[: -len("_scale")]]), tensors[name].item()
            usual, arm = (gguf_files.i2_s(codes, scale, group).tobytes() for group in (128, 64))
            at = content.find(usual)
            assert at >= 0
            content[at : at + len(arm)] = arm
    path = tmp_path / "arm.gguf"
    path.write_bytes(content)
    model = bn.load(path)
    (decision,) = [one for one in model.summary()["decisions"] if one["about"] == "I2_S"]
    assert (decision["chosen"], decision["is_guess"]) == ("groups of 64 weights", False)
    ids = list(range(20))
    expected = bn.load(published).logits(ids)
    np.testing.assert_array_equal(model.logits(ids), expected)
    np.testing.assert_array_equal(bn.load(path, gguf="i2_s=64").logits(ids), expected)
    assert np.abs(bn.load(path, gguf="i2_s=128").logits(ids) - expected).max() > 1


FORMATS = {"gguf-tq2_0": Type.TQ2_0, "gguf-tq1_0": Type.TQ1_0}


@pytest.mark.parametrize("target", FORMATS)
def test_gguf_py_reads_what_is_written(tmp_path: Path, tiny: Path, target: str) -> None:
    path = tmp_path / "tiny.gguf"
    convert(tiny, path, "--to", target, "--head", "f16")
    reader = gguf.GGUFReader(path)
    config, tensors = load(tiny)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in gguf_files.LINEARS.items():
            name = f"model.layers.{layer}.{theirs}.weight"
            tensor = stored[f"blk.{layer}.{ours}.weight"]
            assert tensor.tensor_type == FORMATS[target]
            codes = gguf_files.unpack(tensors[name]).astype(np.float32) - 1
            scale = np.float32(tensors[f"{name}_scale"].item())
            np.testing.assert_array_equal(gguf.dequantize(tensor.data, tensor.tensor_type), codes * scale)
        for theirs, ours in gguf_files.NORMS.items():
            norm = tensors[f"model.layers.{layer}.{theirs}.weight"]
            np.testing.assert_array_equal(stored[f"blk.{layer}.{ours}.weight"].data, norm.astype(np.float32))
    embedding = tensors["model.embed_tokens.weight"].astype(np.float16)
    np.testing.assert_array_equal(stored["token_embd.weight"].data, embedding)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.architecture"] == "bitnet-b1.58"
    assert keys["bitnet-b1.58.block_count"] == config["num_hidden_layers"]
    assert len(keys["tokenizer.ggml.tokens"]) == config["vocab_size"]
    assert keys["tokenizer.ggml.bos_token_id"] == config["bos_token_id"]
    assert "User: " in keys["tokenizer.chat_template"]


@pytest.mark.parametrize("target", ["gguf-i2_s", *FORMATS])
def test_a_written_file_is_the_same_model(tmp_path: Path, tiny: Path, target: str) -> None:
    path = tmp_path / "tiny.gguf"
    # As in the folder; float16 would lose bits of the smallest weights.
    head = ("--head", "bf16")
    convert(tiny, path, "--to", target, *head)
    ours, theirs = bn.load(path), bn.load(tiny)
    text = "My fellow citizens, it's 12345 — today we <|eot_id|>"
    assert ours.tokenizer.encode(text) == theirs.tokenizer.encode(text)
    ids = theirs.tokenizer.encode(text)
    np.testing.assert_array_equal(ours.logits(ids), theirs.logits(ids))
    assert ours.config.eos_token_ids == theirs.config.eos_token_ids
    messages = [{"role": "user", "content": "hi"}]
    assert ours.apply_chat_template(messages) == theirs.apply_chat_template(messages)
    # And once more, from file to file.
    again = tmp_path / "again.gguf"
    convert(path, again, "--to", target, *head)
    np.testing.assert_array_equal(bn.load(again).logits(ids), theirs.logits(ids))
    assert [one.name for one in tmp_path.iterdir() if "partial" in one.name] == []


def test_a_llama_model_goes_there_and_back(tmp_path: Path) -> None:
    build(tmp_path / "hf", LLAMA, **WIDE)
    path = tmp_path / "llama.gguf"
    convert(tmp_path / "hf", path, "--head", "bf16")
    np.testing.assert_array_equal(bn.load(path).logits(IDS), bn.load(tmp_path / "hf").logits(IDS))


SCALED = replace(LLAMA, linear_class="autobitlinear", rope=ROPES["llama3"])
# The weights of bfloat16 that float16 would round, and angles that are off by a float32 rounding.
CLOSE = 2e-5


def rope_factors(path: Path) -> Array:
    """The tensor that GGUF has for rope_scaling."""
    (stored,) = [tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == "rope_freqs.weight"]
    assert stored.tensor_type == Type.F32
    factors: Array = stored.data
    return factors


@pytest.mark.parametrize("spec", [SCALED, Spec(rope=ROPES["llama3"])], ids=["llama", "bitnet"])
def test_llama3_scaling_goes_there_and_back(tmp_path: Path, spec: Spec) -> None:
    config, _ = build(tmp_path / "hf", spec, **WIDE)
    path = tmp_path / "x.gguf"
    convert(tmp_path / "hf", path, "--to", "gguf-tq2_0", "--head", "bf16")
    expected = gguf_files.llama3_factors(config, 64)
    assert len(set(expected)) > 3
    np.testing.assert_array_equal(rope_factors(path), expected)
    logits = bn.load(tmp_path / "hf").logits(IDS)
    np.testing.assert_allclose(bn.load(path).logits(IDS), logits, atol=CLOSE, rtol=0)
    convert(path, tmp_path / "again.gguf", "--to", "gguf-tq1_0", "--head", "bf16")
    np.testing.assert_array_equal(rope_factors(tmp_path / "again.gguf"), expected)
    convert(path, tmp_path / "back")
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert back["rope_scaling"] == {"rope_type": "llama3", **LLAMA3_ROPE}
    np.testing.assert_array_equal(bn.load(tmp_path / "back").logits(IDS), logits)


def test_rope_factors_of_llama_cpp_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build(tmp_path / "hf", SCALED, **WIDE)
    factors = gguf_files.llama3_factors(config, 64)
    gguf_files.write(path, config, tensors, architecture="llama", rope_factors=factors)
    logits = bn.load(tmp_path / "hf").logits(IDS)
    np.testing.assert_allclose(bn.load(path).logits(IDS), logits, atol=CLOSE, rtol=0)
    assert "a factor for each frequency, up to 8" in bitnet("inspect", path)
    gguf_files.write(path, config, tensors, architecture="llama")
    assert np.abs(bn.load(path).logits(IDS) - logits).max() > 0.1


def test_rope_factors_that_llama3_does_not_give_have_no_config(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    config, tensors = build(tmp_path / "hf", SCALED, **WIDE)
    factors = np.linspace(1, 8, 32, dtype=np.float32)
    gguf_files.write(path, config, tensors, architecture="llama", rope_factors=factors)
    bn.load(path).logits(IDS)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        convert(path, tmp_path / "back")
    assert "rope_freqs.weight: its factors are not those of llama3" in refused.value.stderr


def test_the_head_in_q8_0_is_that_of_gguf_py(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "tiny.gguf"
    convert(tiny, path, "--to", "gguf-tq2_0", "--head", "q8_0")
    (stored,) = [tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == "token_embd.weight"]
    matrix = load(tiny)[1]["model.embed_tokens.weight"].astype(np.float32)
    np.testing.assert_array_equal(stored.data, gguf.quantize(matrix, Type.Q8_0))


@pytest.mark.parametrize(("head", "off", "block", "most"), [("q8_0", 0.01, 32, 230), ("q6_k", 0.02, 256, 30)])
def test_a_head_in_blocks_is_near_what_it_was(
    tmp_path: Path, tiny: Path, head: str, off: float, block: int, most: int
) -> None:
    path = tmp_path / "tiny.gguf"
    convert(tiny, path, "--to", "gguf-tq2_0", "--head", head)
    (stored,) = [tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == "token_embd.weight"]
    assert stored.tensor_type == Type[head.upper()]
    matrix = load(tiny)[1]["model.embed_tokens.weight"].astype(np.float32)
    error = gguf.dequantize(stored.data, stored.tensor_type) - matrix
    assert np.sqrt(np.mean(error**2) / np.mean(matrix**2)) < off
    largest = np.abs(matrix).reshape(-1, block).max(axis=1)
    assert (np.abs(error).reshape(-1, block).max(axis=1) <= largest / most).all()
    # What is read back is what gguf-py reads, in float16.
    again = tmp_path / "f16.gguf"
    convert(path, again, "--to", "gguf-tq2_0", "--head", "f16")
    (wide,) = [tensor for tensor in gguf.GGUFReader(again).tensors if tensor.name == "token_embd.weight"]
    np.testing.assert_array_equal(
        wide.data, gguf.dequantize(stored.data, stored.tensor_type).astype(np.float16)
    )


def test_a_folder_that_holds_a_file_is_that_file(tmp_path: Path, tiny: Path) -> None:
    convert(tiny, tmp_path / "one.gguf")
    (tmp_path / "README.md").write_text("a model")
    assert bn.load(tmp_path).summary()["format"] == "GGUF version 3, I2_S"
    convert(tiny, tmp_path / "two.gguf")
    with pytest.raises(bn.CheckpointError, match=r"several GGUF files, name one: one\.gguf, two\.gguf"):
        bn.load(tmp_path)


def test_what_cannot_be_is_refused(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(bn.OptionError, match="gguf must be left out for a model that is no GGUF file"):
        bn.load(tiny, gguf="i2_s=64")
    with pytest.raises(bn.OptionError, match="gguf must be i2_s=128 or i2_s=64, not i2_s=32"):
        bn.load(tiny, gguf="i2_s=32")
    path = tmp_path / "x.gguf"
    convert(tiny, path)
    with pytest.raises(bn.TokenizerError, match=r'tokenizer\.ggml\.pre is "no", which is not'):
        bn.load(path, gguf="pre=no")
    config, tensors = build(tmp_path / "hf", **WIDE)
    gguf_files.write(path, config, tensors, architecture="phi3")
    with pytest.raises(bn.ConfigError, match='unknown architecture "phi3"; known: bitnet, bitnet-25'):
        bn.load(path)
    gguf_files.write(path, config, tensors, architecture="llama", linear=gguf_files.floats(np.float16))
    with pytest.raises(bn.ConfigError, match="has no ternary matrix: a plain llama model, not a BitNet one"):
        bn.load(path)


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write(path, tmp_path / "hf")
    with pytest.raises(bn.TokenizerError, match=r"x\.gguf: has no tokenizer"):
        bn.load(path).generate("a")


def test_the_command_shows_what_was_decided(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write(path, tmp_path / "hf", architecture="bitnet")
    shown = bitnet("inspect", path)
    assert "GGUF version 3, TQ2_0" in shown
    assert "activation: silu, which models under the label" in shown
    assert "--gguf activation=relu2|silu|gelu decides otherwise" in shown
    assert "activation: relu2, as asked for" in bitnet("inspect", path, "--gguf", "activation=relu2")
