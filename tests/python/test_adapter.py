"""Adapters beside models of every dialect, against the oracle, in files as PEFT writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from checkpoints import DIALECTS, Array, Spec, build, encode, write_json, write_safetensors
from reference import assert_agreement, forward

RANK, ALPHA = 4, 6
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def shapes(spec: Spec) -> dict[str, tuple[int, int]]:
    """[outputs, inputs] of every projection of a layer, by its name in the layer."""
    dim = spec.head_dim or spec.hidden_size // spec.heads
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = dim * spec.heads, dim * (spec.kv_heads or spec.heads)
    attention = {"q_proj": (q, hidden), "k_proj": (kv, hidden), "v_proj": (kv, hidden), "o_proj": (hidden, q)}
    mlp = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    return {f"self_attn.{name}": shape for name, shape in attention.items()} | {
        f"mlp.{name}": shape for name, shape in mlp.items()
    }


def write_adapter(
    folder: Path, spec: Spec, dtype: str = "F32", targets: tuple[str, ...] = LINEARS, **changes: Any
) -> dict[str, Array]:
    """Write a random adapter; return its tensors as the oracle adds them: `B` times alpha / rank."""
    rng = np.random.default_rng(5)
    stored, added = {}, {}
    for layer in range(spec.layers):
        for part, (outputs, inputs) in shapes(spec).items():
            if not part.endswith(targets):
                continue
            name = f"{'' if spec.bare else 'model.'}layers.{layer}.{part}"
            # Additions of about half of what is there.
            for side, shape, size in (("A", (RANK, inputs), inputs), ("B", (outputs, RANK), 4 * RANK)):
                tensor = encode(rng.normal(size=shape) / np.sqrt(size), dtype)
                stored[f"base_model.model.{name}.lora_{side}.weight"] = tensor
                values = tensor.array.astype(np.float64)
                added[f"{name}.lora_{side}.weight"] = values * (ALPHA / RANK if side == "B" else 1)
    folder.mkdir()
    write_safetensors(folder / "adapter_model.safetensors", stored)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": list(targets)}
    write_json(folder / "adapter_config.json", config | changes)
    return added


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in DIALECTS])
def test_logits_match_the_reference(tmp_path: Path, spec: Spec) -> None:
    config, tensors = build(tmp_path / "model", spec)
    added = write_adapter(tmp_path / "adapter", spec)
    model = bn.load(tmp_path / "model", adapter=tmp_path / "adapter")
    prompts = np.random.default_rng(0).integers(0, spec.vocab_size, (8, 8)).tolist()
    logits = [model.logits(ids) for ids in prompts]
    expected = [forward(config, tensors | added, ids) for ids in prompts]
    assert_agreement(logits, expected, tolerance=2e-3)
    without = bn.load(tmp_path / "model").logits(prompts[0])
    assert np.abs(logits[0] - without).mean() > 0.1 * without.std()


def test_some_projections_and_float16(tmp_path: Path) -> None:
    spec = Spec()
    config, tensors = build(tmp_path / "model", spec)
    added = write_adapter(tmp_path / "adapter", spec, "F16", ("q_proj", "v_proj"))
    ids = list(range(40, 60))
    logits = bn.load(tmp_path / "model", adapter=tmp_path / "adapter").logits(ids)
    assert_agreement([logits], [forward(config, tensors | added, ids)], tolerance=2e-3)


def test_a_summary_and_a_cache_tell_adapters_apart(tmp_path: Path) -> None:
    build(tmp_path / "model")
    write_adapter(tmp_path / "adapter", Spec())
    with bn.ModelCache("1GiB") as cache:
        adapted = cache.get(tmp_path / "model", adapter=tmp_path / "adapter")
        plain = cache.get(tmp_path / "model")
        assert cache.stats()["misses"] == 2
        assert cache.get(tmp_path / "model", adapter=tmp_path / "adapter").summary() == adapted.summary()
    parameters = 2 * sum(RANK * sum(shape) for shape in shapes(Spec()).values())
    assert adapted.summary()["adapter"] == {
        "path": str(tmp_path / "adapter"),
        "rank": RANK,
        "alpha": ALPHA,
        "linears": 14,
        "parameters": parameters,
        "bytes": 4 * parameters,
    }
    assert plain.summary() == adapted.summary() | {"adapter": None}


def test_what_is_no_adapter_of_the_model_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "model")
    with pytest.raises(bn.CheckpointError, match="is no adapter"):
        bn.load(tmp_path / "model", adapter=tmp_path / "none")
    write_adapter(tmp_path / "wide", Spec(hidden_size=128))
    with pytest.raises(
        bn.CheckpointError, match=r"adapts .* of shape \[128, 128\]; the model has \[64, 64\]"
    ):
        bn.load(tmp_path / "model", adapter=tmp_path / "wide")
    write_adapter(tmp_path / "dora", Spec(), use_dora=True)
    with pytest.raises(bn.ConfigError, match="DoRA does not run"):
        bn.load(tmp_path / "model", adapter=tmp_path / "dora")
