"""The engine on MLX's CPU device: golden tokens, the contract of backends, its options and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import bitnet_rust as bn
import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="needs the extra mlx")

import mlx.core as mx
from bitnet_rust.mlx import MlxBackend, load_model
from mlx_arrays import to_numpy
from reference import assert_agreement


@pytest.fixture(scope="module")
def backend(tiny: Path) -> MlxBackend:
    return MlxBackend(tiny, device=mx.Device(mx.cpu))


def test_it_keeps_the_contract_bit_for_bit(backend: MlxBackend) -> None:
    assert backend.exact
    bn.testing.check_backend(backend, bn.load(), tolerance=0.0)


def test_greedy_tokens_are_golden(backend: MlxBackend, golden: Path) -> None:
    model = bn.load()
    for prompt in json.loads((golden / "bitnet-tiny.json").read_text())["prompts"]:
        tokens = bn.testing.greedy(backend, model, prompt["ids"], 12)
        assert tokens == prompt["greedy_ids"][: len(tokens)]


def test_greedy_tokens_of_mini_are_golden(shared: Path) -> None:
    path = shared / "models/bitnet-mini"
    model, backend = bn.load(path), MlxBackend(path)
    for prompt in json.loads((shared / "golden/bitnet-mini.json").read_text())["prompts"]:
        tokens = bn.testing.greedy(backend, model, prompt["ids"], 12)
        assert tokens == prompt["greedy_ids"][: len(tokens)]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kv_dtype", ["f32", "f16"])
def test_an_engine_writes_the_texts_of_the_cpu(tiny: Path, exact: bool, kv_dtype: str) -> None:
    backend = MlxBackend(tiny, exact=exact)
    model = bn.load()
    prompts = ["It is time", "The United States", "My fellow citizens, today we"]
    options = {"kv_memory": "8MiB", "kv_dtype": kv_dtype, "context": 128}
    with bn.Engine(model, backend=backend, **options) as engine:  # type: ignore[arg-type]
        texts = engine.generate(prompts, max_tokens=8)
    with bn.Engine(model, **options) as engine:  # type: ignore[arg-type]
        expected = engine.generate(prompts, max_tokens=8)
    assert [text.token_ids for text in texts] == [text.token_ids for text in expected]


def test_a_piece_at_once_agrees_with_token_by_token(tiny: Path) -> None:
    """What an Apple GPU does with prompts, within the reach of a rounding tie."""
    ids = list(range(40, 190))
    model, logits = bn.load(), []
    for exact in (True, False):
        session = MlxBackend(tiny, exact=exact).open(4, 200, 256, "f32")
        logits.append(session.execute([work_of(ids, len(ids))]))
    assert_agreement([logits[1]], [logits[0]], tolerance=1e-3)
    assert_agreement([logits[0]], [model.logits(ids)], tolerance=1e-3)


class Piece:
    """An entry of a batch."""

    def __init__(self, ids: list[int], outputs: int) -> None:
        self.ids, self.position, self.outputs = np.array(ids, np.uint32), 0, outputs
        self.pages = np.array([2, 0, 3, 1], np.uint32)


def work_of(ids: list[int], outputs: int) -> bn.Work:
    piece: bn.Work = Piece(ids, outputs)  # type: ignore[assignment]
    return piece


def test_a_quantized_head_gives_nearly_the_same(tiny: Path) -> None:
    ids = list(range(40, 80))
    exact, backend = MlxBackend(tiny), MlxBackend(tiny, head_bits=8)
    got, expected = (
        each.open(4, 200, 64, "f32").execute([work_of(ids, 40)]) for each in (backend, exact)
    )
    assert backend.weight_bytes < exact.weight_bytes
    assert not np.array_equal(got, expected)
    assert np.abs(got - expected).mean() < 0.01 * expected.std()


def test_options_that_cannot_be_are_refused(tiny: Path, backend: MlxBackend) -> None:
    with pytest.raises(ValueError, match="head_bits must be 4, 6 or 8, not 3"):
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
        session.execute([work_of(ids, 3)]), to_numpy(model(mx.array([ids]))[0]), rtol=1e-4, atol=1e-4
    )


def test_weights_are_counted_once(backend: MlxBackend) -> None:
    ternary = sum(
        array.nbytes for layer in backend.model.layers for array in (layer.mlp.up_proj.weight,)
    )
    assert ternary == 4 * 768 * 256 // 4
    # Two bits for each ternary weight, the embedding as it is stored, and the head as float32.
    assert 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 768) // 4 + 2048 * 256 * 6 < backend.weight_bytes
