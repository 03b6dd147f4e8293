"""The engine on MLX's CPU device: golden tokens, the contract of backends, its options and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bitnet_rust as bn
import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="needs the extra mlx")

import mlx.core as mx
from bitnet_rust.mlx import MlxBackend, load_model
from conftest import FIXTURES
from mlx_arrays import assert_golden_text, to_numpy
from reference import assert_agreement


@pytest.fixture(scope="module")
def backend(tiny: Path) -> MlxBackend:
    return MlxBackend(tiny, device=mx.Device(mx.cpu))


def test_it_keeps_the_contract_bit_for_bit(backend: MlxBackend) -> None:
    assert backend.exact
    bn.testing.check_backend(backend, bn.load(), tolerance=0.0)


@pytest.mark.parametrize(("name", "equal"), [("bitnet-tiny", 6), ("bitnet-mini", 2)])
def test_greedy_tokens_are_golden(request: pytest.FixtureRequest, name: str, equal: int) -> None:
    """Of 8 texts of 48 tokens so many at least are equal to the end; the others part at near ties."""
    path, golden = FIXTURES / name, FIXTURES / "golden"
    if name != "bitnet-tiny":
        shared: Path = request.getfixturevalue("shared")
        path, golden = shared / "models" / name, shared / "golden"
    model, backend = bn.load(path), MlxBackend(path)
    prompts = json.loads((golden / f"{name}.json").read_text())["prompts"]
    texts = [bn.testing.greedy(backend, model, prompt["ids"], 48) for prompt in prompts]
    same = [assert_golden_text(path, *pair) for pair in zip(prompts, texts, strict=True)]
    assert sum(same) >= equal


@pytest.mark.parametrize("exact", [True, False])
def test_an_engine_writes_the_texts_of_the_cpu(tiny: Path, exact: bool) -> None:
    backend = MlxBackend(tiny, exact=exact)
    model = bn.load()
    prompts = ["It is time", "The United States", "My fellow citizens, today we"]
    with bn.Engine(model, backend=backend, kv_dtype="f32", context=128) as engine:
        texts = engine.generate(prompts, max_tokens=8)
    with bn.Engine(model, kv_dtype="f32", context=128) as engine:
        expected = engine.generate(prompts, max_tokens=8)
    assert [text.token_ids for text in texts] == [text.token_ids for text in expected]


def test_a_piece_at_once_agrees_with_token_by_token(tiny: Path) -> None:
    """What an Apple GPU does with prompts, within the reach of a rounding tie."""
    ids = list(range(40, 190))
    model, logits = bn.load(), []
    for exact in (True, False):
        session = MlxBackend(tiny, exact=exact).open(4, 200, 256, "f32")
        logits.append(session.execute([Piece(ids)]))
    assert_agreement([logits[1]], [logits[0]], tolerance=1e-5, share=0.05)
    assert_agreement([logits[0]], [model.logits(ids)], tolerance=1e-5, share=0.05)


class Piece:
    """An entry of a batch, which asks for all logits."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.position, self.outputs = np.array(ids, np.uint32), 0, len(ids)
        self.pages = np.array([2, 0, 3, 1], np.uint32)


def test_keys_and_values_as_float16_are_nearly_the_same(backend: MlxBackend) -> None:
    ids = list(range(40, 80))
    wide, half = (backend.open(4, 200, 64, kind).execute([Piece(ids)]) for kind in ("f32", "f16"))
    assert not np.array_equal(wide, half)
    assert np.abs(wide - half).mean() < 0.02 * wide.std()


def test_a_quantized_head_gives_nearly_the_same(tiny: Path) -> None:
    ids = list(range(40, 80))
    exact, backend = MlxBackend(tiny), MlxBackend(tiny, head_bits=8)
    got, expected = (each.open(4, 200, 64, "f32").execute([Piece(ids)]) for each in (backend, exact))
    assert backend.weight_bytes < exact.weight_bytes
    assert not np.array_equal(got, expected)
    assert np.abs(got - expected).mean() < 0.01 * expected.std()


def test_options_that_cannot_be_are_refused(tiny: Path, backend: MlxBackend) -> None:
    with pytest.raises(ValueError, match="head_bits must be 4, 6 or 8"):
        MlxBackend(tiny, head_bits=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="f32 or f16 on MLX, not as int8"):
        backend.open(4, 200, 64, "int8")
    with pytest.raises(bn.DeviceError, match="mlx: ValueError: keys and values"):
        bn.Engine(bn.load(), backend=backend, kv_dtype="int8")


def test_a_model_is_a_source(tiny: Path) -> None:
    model = load_model(tiny)
    session = MlxBackend(model).open(4, 200, 64, "f32")
    ids = [1, 2, 3]
    np.testing.assert_allclose(
        session.execute([Piece(ids)]), to_numpy(model(mx.array([ids]))[0]), rtol=1e-4, atol=1e-4
    )


def test_weights_are_counted(backend: MlxBackend) -> None:
    ternary = 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 768)
    scales, norms = 4 * 7, 4 * (3 * 256 + 768) + 256
    # Two bits for each ternary weight, and the embedding, which is the head, as float32.
    assert backend.weight_bytes == ternary // 4 + 4 * (scales + norms + 2048 * 256)


def test_weights_are_not_prepared_for_the_cpu_as_well(tiny: Path) -> None:
    def taken(load: Callable[[], object]) -> int:
        before = bn.memory_stats().live_bytes
        kept = load()
        taken = bn.memory_stats().live_bytes - before
        del kept
        return taken

    backend = MlxBackend(tiny)
    on_cpu = taken(lambda: bn.load(tiny))
    assert on_cpu > 1 << 20
    assert taken(lambda: bn.load(tiny, device="mlx")) < on_cpu / 10
    assert taken(lambda: bn.Engine(tiny, backend=backend)) < on_cpu / 10


def test_a_load_for_mlx_generates_and_streams(tiny: Path, golden: Path) -> None:
    prompt = json.loads((golden / "bitnet-tiny.json").read_text())["prompts"][0]
    model = bn.load(tiny, device="mlx")
    assert model.generate(prompt["ids"], max_tokens=12).token_ids == prompt["greedy_ids"][:12]
    text = "".join(chunk.text for chunk in model.stream(prompt["text"], max_tokens=12))
    assert text == model.tokenizer.decode(prompt["greedy_ids"][:12])
    assert model.config.hidden_size == 256
    assert model.summary() == bn.load(tiny).summary()
    logits = model.logits(prompt["ids"])
    assert_agreement([logits], [bn.load().logits(prompt["ids"])], tolerance=1e-5)
    with pytest.raises(bn.PromptError):
        model.generate("")
    model.close()
    with pytest.raises(bn.EngineClosedError):
        model.generate("It is time")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            lambda _: bn.load(device="mlx"),
            "the embedded model has no files for MLX; name a folder, a GGUF file or a hub id",
        ),
        (
            lambda tiny: bn.load(tiny, device="mlx", packing="bits2"),
            "packing does not go with the device mlx",
        ),
        (
            lambda tiny: bn.load(tiny, device="mlx", kv_cache="int8"),
            "kv_cache is f32 or f16 on MLX, not int8",
        ),
    ],
)
def test_what_mlx_has_not_is_an_option_error(
    tiny: Path, load: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(bn.OptionError, match=message):
        load(tiny)


@pytest.mark.parametrize("how", ["engine", "model"])
def test_what_is_left_open_ends_with_the_interpreter(tiny: Path, how: str) -> None:
    program = {
        "engine": "e = bn.Engine(bn.load(p), backend=MlxBackend(p)); e.submit('A', max_tokens=3).result()",
        "model": "m = bn.load(p, device='mlx'); m.generate('It is', max_tokens=3)",
    }[how]
    imports = "import sys, bitnet_rust as bn; from bitnet_rust.mlx import MlxBackend; p = sys.argv[1]\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + program, str(tiny)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
