"""The package as installed: command, metadata, types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import bitnet_rust as bn
import pytest

BITNET = Path(sys.executable).with_name("bitnet.exe" if os.name == "nt" else "bitnet")


def bitnet(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run([BITNET, *args], capture_output=True, encoding="utf-8", timeout=120, check=False)


def test_only_numpy_is_required_and_versions_agree() -> None:
    required = [r for r in metadata.requires("bitnet-rust") or [] if "extra ==" not in r]
    assert [r.split(">")[0] for r in required] == ["numpy"]
    assert bn.__version__ == metadata.version("bitnet-rust")
    assert resources.files("bitnet_rust").joinpath("py.typed").is_file()
    # The package for MLX is an attribute once something has imported it.
    public = {name for name in vars(bn) if not name.startswith("_")} - {"mlx"}
    assert set(bn.__all__) == public | {"__version__"}


def test_the_command_starts_without_numpy() -> None:
    code = "import sys; from bitnet_rust import _cli; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_run_prints_the_text_of_the_library() -> None:
    expected = bn.load().generate("In the beginning", max_tokens=20)
    plain = bitnet("run", "-p", "In the beginning", "-n", "20")
    assert (plain.returncode, plain.stdout) == (0, f"{expected.text}\n")
    assert "tokens/s" in plain.stderr
    report = json.loads(bitnet("run", "-p", "In the beginning", "-n", "20", "--json").stdout)
    assert report["text"] == expected.text
    assert report["token_ids"] == expected.token_ids
    assert report["completion_tokens"] == 20
    assert report["finish_reason"] == "length"
    assert report["prompt_tokens"] == expected.prompt_tokens
    assert set(report["timings"]) == {"prefill_s", "decode_s", "prefill_tokens_per_s", "decode_tokens_per_s"}


def test_inspect_and_doctor_print_json() -> None:
    assert json.loads(bitnet("inspect", "--json").stdout) == bn.load().summary()
    doctor = json.loads(bitnet("doctor", "--json").stdout)
    assert doctor["isa"] in doctor["isas"]
    assert all(outcome["wrong"] == 0 for outcome in doctor["self_test"])
    assert [outcome["isa"] for outcome in doctor["self_test"]] == doctor["isas"]


def test_eval_agrees_with_the_library(tmp_path: Path) -> None:
    text = "It was a dark and stormy night. " * 100
    (tmp_path / "text.txt").write_text(text)
    done = bitnet("eval", "--text", str(tmp_path / "text.txt"), "--window", "64", "--json")
    report = json.loads(done.stdout)
    assert report["perplexity"] == pytest.approx(bn.load().perplexity(text, window=64), rel=1e-12)


@pytest.mark.parametrize(
    ("args", "status"), [(["run"], 2), (["run", "-p", ""], 2), (["run", "no/x", "-p", "a"], 1)]
)
def test_the_exit_status_comes_through(args: list[str], status: int) -> None:
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([BITNET, *args], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == status
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
