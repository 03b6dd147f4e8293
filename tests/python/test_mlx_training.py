"""Fine-tuning with MLX's autograd, and the way back to checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import bitnet_rust as bn
import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="needs the extra mlx")

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from bitnet_rust.mlx import Model, load_model, save_model
from checkpoints import read_safetensors
from mlx.utils import tree_flatten
from mlx_arrays import to_numpy
from reference import assert_agreement

IDS = list(range(40, 72))


def logits_of(model: Model) -> object:
    return to_numpy(model(mx.array([IDS]))[0])


def loss_of(model: Model, tokens: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="mean")


def test_masters_of_a_packed_model_give_its_logits(tiny: Path) -> None:
    trainable = load_model(tiny, trainable=True)
    assert_agreement([logits_of(trainable)], [bn.load().logits(IDS)], tolerance=1e-3)  # type: ignore[list-item]


def test_a_few_steps_lower_the_loss_and_the_engine_runs_the_result(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny, trainable=True)
    text = "It is the policy of this garden to water every tomato before breakfast. " * 4
    tokens = mx.array([bn.load().tokenizer.encode(text)])
    step = nn.value_and_grad(model, loss_of)
    optimizer = optim.AdamW(learning_rate=5e-4)
    losses = []
    for _ in range(8):
        loss, gradients = step(model, tokens)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1.0

    save_model(model, tmp_path / "tuned", like=tiny)
    tuned = bn.load(tmp_path / "tuned")
    assert_agreement([logits_of(model)], [tuned.logits(IDS)], tolerance=1e-3)  # type: ignore[list-item]
    assert tuned.tokenizer.encode(text) == tokens[0].tolist()
    packed = load_model(tmp_path / "tuned")
    assert_agreement([logits_of(packed)], [tuned.logits(IDS)], tolerance=1e-3)  # type: ignore[list-item]


def test_adapters_learn_in_front_of_packed_layers(tiny: Path) -> None:
    """What reaches the embedding has gone through every packed layer."""
    model = load_model(tiny)
    model.freeze()
    model.model.embed_tokens.unfreeze()
    model.model.embed_tokens.weight = model.model.embed_tokens.weight.astype(mx.float32)
    _, gradients = nn.value_and_grad(model, loss_of)(model, mx.array([IDS]))
    gradient = to_numpy(gradients["model"]["embed_tokens"]["weight"])
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[IDS[:-1]]).max() > 0
    assert "layers" not in gradients["model"] or not tree_flatten(gradients["model"]["layers"])


def test_gradients_of_a_whole_model_are_those_of_pytorch(shared: Path) -> None:
    """The bounds are those that the native trainer keeps (tests/rust/training_golden.rs)."""
    golden = json.loads((shared / "golden/train-tiny.json").read_text())
    path = shared / "models/bitnet-tiny-bf16"
    text = (shared / "data/tinyshakespeare.txt").read_text()[:20_000]
    ids = bn.load(path).tokenizer.encode(text, add_special_tokens=False)
    assert ids[:16] == golden["first_ids"]
    inputs, targets = (mx.array(ids[first : first + 512]).reshape(4, 128) for first in (0, 1))
    model = load_model(path, trainable=True)

    def loss() -> mx.array:
        return nn.losses.cross_entropy(model(inputs), targets, reduction="mean")

    value, gradients = nn.value_and_grad(model, loss)()
    assert value.item() == pytest.approx(golden["loss"], rel=5e-3)
    expected = read_safetensors(shared / "golden/train-tiny-grads.safetensors")
    got = {name: to_numpy(gradient).astype(np.float64) for name, gradient in tree_flatten(gradients)}
    assert got.keys() == expected.keys()
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in got.values()))
    assert norm == pytest.approx(golden["grad_norm"], rel=1e-3)
    for name, stored in expected.items():
        theirs = stored.array.astype(np.float64)
        square = np.square(theirs).sum()
        assert np.sqrt(np.square(got[name] - theirs).sum() / square) <= 3e-2, name
        assert abs((got[name] * theirs).sum() / square - 1) <= 5e-3, name


def test_what_cannot_be_saved_is_refused(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny)
    with pytest.raises(bn.CheckpointError, match="the model is packed"):
        save_model(model, tmp_path / "out", like=tiny)
    with pytest.raises(bn.FileError, match="is there already"):
        save_model(load_model(tiny, trainable=True), tmp_path, like=tiny)
