"""`bn.convert` and `bn.verify`: what the commands do, from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bitnet_rust as bn
import gguf
import numpy as np
import pytest

IDS = [5, 77, 300, 12, 12, 250, 9]


def test_a_model_is_converted_and_verified(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "x.gguf"
    converted = bn.convert(tiny, path)
    assert (converted["to"], converted["files"], converted["lost"]) == ("gguf-i2_s", 1, [])
    assert 0 < converted["ternary"] < converted["tensors"]
    np.testing.assert_array_equal(bn.load(path).logits(IDS), bn.load(tiny).logits(IDS))
    found = bn.verify(path, tiny)
    facts = {check["name"]: check["fact"] for check in found["checks"]}
    assert {check["status"] for check in found["checks"]} <= {"ok", "warning"}
    assert facts["against: codes"].startswith("the same in all")
    assert len(found["tensors"]) == converted["ternary"]


def test_verify_says_what_the_command_says(tiny: Path) -> None:
    run = "from bitnet_rust._cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", run, "verify", str(tiny), "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(shown) == bn.verify(tiny)
    assert "against: codes" not in shown


def test_options_go_through(tmp_path: Path, tiny: Path) -> None:
    converted = bn.convert(tiny, tmp_path / "a", to="bf16", head="f16", shard_bytes=2_000_000, threads=1)
    assert (converted["to"], converted["embedding"]) == ("bf16", "f16")
    assert converted["files"] == len(list((tmp_path / "a").glob("model-*.safetensors"))) > 1
    converted = bn.convert(tiny, tmp_path / "a.gguf", to="gguf-tq2_0", head="q6_k")
    assert converted["embedding"] == "q6_k"
    assert converted["lost"] == ["embedding and head: rounded to q6_k, as asked for"]


def test_each_part_of_a_split_file_is_a_file(tmp_path: Path, tiny: Path) -> None:
    bn.convert(tiny, tmp_path / "whole.gguf", to="gguf-tq2_0")
    converted = bn.convert(tiny, tmp_path / "x.gguf", to="gguf-tq2_0", shard_bytes=400_000)
    count = converted["files"]
    readers = [
        gguf.GGUFReader(tmp_path / f"x-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)
    ]
    whole = gguf.GGUFReader(tmp_path / "whole.gguf")
    expected = {tensor.name: tensor.data.tobytes() for tensor in whole.tensors}
    found = [(tensor.name, tensor.data.tobytes()) for reader in readers for tensor in reader.tensors]
    assert len(found) == converted["tensors"]
    assert dict(found) == expected
    for number, reader in enumerate(readers):
        keys = {name: reader.fields[f"split.{name}"] for name in ("no", "count", "tensors.count")}
        assert [field.contents() for field in keys.values()] == [number, count, len(found)]
        types = [field.types[0] for field in keys.values()]
        kind = gguf.GGUFValueType
        assert types == [kind.UINT16, kind.UINT16, kind.INT32]
        assert ("general.architecture" in reader.fields) == (number == 0)
        sizes = [tensor.n_bytes for tensor in reader.tensors]
        assert sum(sizes) <= 400_000 or len(sizes) == 1


def test_what_cannot_be_is_refused(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "there"
    with pytest.raises(bn.OptionError, match=r"to must be hf, .* not onnx"):
        bn.convert(tiny, path, to="onnx")  # type: ignore[arg-type]
    with pytest.raises(bn.OptionError, match="head must be f16, bf16, q8_0 or q6_k, not q4_k"):
        bn.convert(tiny, path, head="q4_k")  # type: ignore[arg-type]
    with pytest.raises(bn.OptionError, match="head must be f16 or bf16 in a Hugging Face folder"):
        bn.convert(tiny, path, head="q6_k")
    with pytest.raises(bn.OptionError, match="threads must be"):
        bn.convert(tiny, path, threads=-1)
    with pytest.raises(bn.ModelNotFoundError):
        bn.convert(tmp_path / "nothing", path)
    with pytest.raises(bn.ModelNotFoundError):
        bn.verify(tiny, tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
    path.write_text("mine")
    with pytest.raises(bn.FileError, match="is there already; give a new name"):
        bn.convert(tiny, path)
    assert path.read_text() == "mine"


def test_a_model_that_does_not_load_is_a_check_that_failed(tmp_path: Path, tiny: Path) -> None:
    folder = tmp_path / "model"
    bn.convert(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    (check,) = bn.verify(folder)["checks"]
    assert (check["name"], check["status"]) == ("structure", "fail")
    assert "model.layers.4" in check["fact"]


def test_merge_writes_the_mean_of_masters(tiny: Path, tmp_path: Path) -> None:
    bn.convert(tiny, tmp_path / "a", to="bf16")
    merged = bn.merge([tmp_path / "a", tmp_path / "a"], tmp_path / "b", weights=[1, 3], threads=1)
    assert (merged["to"], merged["ternary"]) == ("bf16", 28)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    for models, weights_of, error in [
        ([tmp_path / "a"], None, bn.OptionError),
        ([tmp_path / "a"] * 2, [1.0], bn.OptionError),
        ([tmp_path / "a"] * 2, [float("nan"), 1.0], bn.OptionError),
        ([tiny, tmp_path / "a"], None, bn.CheckpointError),
    ]:
        with pytest.raises(error):
            bn.merge(models, tmp_path / "c", weights=weights_of)
    assert not (tmp_path / "c").exists()
