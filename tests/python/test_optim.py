"""Optimizers, clipping and schedules against their formulas in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from arrays import Array
from bitnet_rust import optim
from bitnet_rust.nn import Parameter
from gradients import near, wave


def parameters() -> list[Parameter]:
    return [Parameter(wave(4, 3)), Parameter(wave(3))]


def gradients(step: int) -> list[Array]:
    return [(wave(4, 3) * (step + 1)).astype(np.float32), (wave(3) - step).astype(np.float32)]


def run(optimizer: optim.Optimizer, owned: list[Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(owned, gradients(step), strict=True):
            parameter.grad = bn.Tensor(gradient)
        optimizer.step()


def test_adamw_follows_its_formula() -> None:
    owned = parameters()
    run(optim.AdamW(owned, 0.05, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.5), owned, range(3))
    for place, (w, decay) in enumerate([(wave(4, 3), 0.5), (wave(3), 0.0)]):
        m, v = np.zeros_like(w), np.zeros_like(w)
        for step in range(3):
            g = gradients(step)[place].astype(np.float64)
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
            away = (m / (1 - 0.8 ** (step + 1))) / (np.sqrt(v / (1 - 0.9 ** (step + 1))) + 1e-6)
            w = w * (1 - 0.05 * decay) - 0.05 * away
        near(owned[place].detach().numpy(), w)


def test_moments_in_eight_bits_take_a_quarter_and_lead_nearly_there() -> None:
    owned, eight = parameters(), parameters()
    optimizers = optim.AdamW(owned, 0.01), optim.AdamW(eight, 0.01, moments="8bit")
    for optimizer, those in zip(optimizers, (owned, eight), strict=True):
        run(optimizer, those, range(5))
    moved = np.abs(owned[0].detach().numpy() - wave(4, 3).astype(np.float32)).max()
    apart = np.abs(owned[0].detach().numpy() - eight[0].detach().numpy()).max()
    assert 0 < apart < 0.05 * moved
    np.testing.assert_array_equal(owned[1].detach().numpy(), eight[1].detach().numpy())
    states = [optimizer.state_dict() for optimizer in optimizers]
    moments = [state["0.first_moment"] for state in states]
    assert [moment.dtype for moment in moments] == ["f32", "u8"]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_formula(nesterov: bool) -> None:
    owned = parameters()
    run(optim.SGD(owned, 0.05, momentum=0.7, nesterov=nesterov, weight_decay=0.5), owned, range(3))
    for place, (w, decay) in enumerate([(wave(4, 3), 0.5), (wave(3), 0.0)]):
        u = np.zeros_like(w)
        for step in range(3):
            g = gradients(step)[place].astype(np.float64)
            u = 0.7 * u + g
            w = w * (1 - 0.05 * decay) - 0.05 * (g + 0.7 * u if nesterov else u)
        near(owned[place].detach().numpy(), w)


MAKERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "adamw": optim.AdamW,
    "adamw in eight bits": lambda owned: optim.AdamW(owned, moments="8bit"),
    "sgd": lambda parameters: optim.SGD(parameters, 0.1, momentum=0.9),
}


STATES = ["velocity", *(f"{which}_moment{what}" for which in ("first", "second") for what in ("", "_scales"))]


@pytest.mark.parametrize("name", MAKERS)
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str) -> None:
    once, twice = parameters(), parameters()
    names = ["w", "b"]
    whole = MAKERS[name](zip(names, once, strict=True))
    run(whole, once, range(4))
    first = MAKERS[name](zip(names, twice, strict=True))
    run(first, twice, range(2))
    state = first.state_dict()
    assert (
        {"step"}
        < state.keys()
        <= {
            "step",
            *(f"{name}.{what}" for name in names for what in STATES),
        }
    )
    again = MAKERS[name](zip(names, twice, strict=True))
    again.load_state_dict({name: tensor.numpy() for name, tensor in state.items()})
    run(again, twice, range(2, 4))
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    with pytest.raises(bn.CheckpointError, match=r"tensor b\.\w+ is missing"):
        again.load_state_dict({key: tensor for key, tensor in state.items() if not key.startswith("b.")})


def test_rates_are_set_and_what_has_no_gradient_stays() -> None:
    owned = parameters()
    optimizer = optim.AdamW(owned)
    assert isinstance(optimizer, optim.Optimizer)
    assert (optimizer.lr, optimizer.weight_decay) == pytest.approx((1e-3, 0.1))
    optimizer.lr, optimizer.weight_decay = 0.5, 0.0
    assert (optimizer.lr, optimizer.weight_decay) == (0.5, 0.0)
    owned[0].grad = bn.Tensor(gradients(0)[0])
    optimizer.step()
    near(owned[0].detach().numpy(), wave(4, 3) - 0.5 * np.sign(gradients(0)[0]))
    assert owned[1].tolist() == parameters()[1].tolist()
    optimizer.zero_grad()
    assert owned[0].grad is None


def test_clipping_by_the_norm_of_all_gradients() -> None:
    owned = [*parameters(), Parameter([1.0])]
    for parameter, gradient in zip(owned, gradients(2), strict=False):
        parameter.grad = bn.Tensor(gradient)
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients(2)))
    assert optim.clip_grad_norm(owned, 1e6) == pytest.approx(norm, rel=1e-12)
    assert optim.clip_grad_norm(owned, 0.5) == pytest.approx(norm, rel=1e-12)
    for parameter, gradient in zip(owned, gradients(2), strict=False):
        assert parameter.grad is not None
        near(parameter.grad.numpy(), gradient * 0.5 / norm)
    assert optim.clip_grad_norm(owned, 1.0) == pytest.approx(0.5, rel=1e-5)
    owned[0].grad = bn.Tensor(np.full((4, 3), np.nan, np.float32))
    assert math.isnan(optim.clip_grad_norm(owned, 1.0))


def test_schedules_rise_and_fall() -> None:
    linear = optim.Schedule(8.0, 12, warmup=4, end=2.0, fall="linear")
    assert [linear(step) for step in (0, 3, 4, 8, 12, 99)] == [2, 8, 8, 5, 2, 2]
    cosine = optim.Schedule(8.0, 12, warmup=4)
    assert cosine(6) == pytest.approx(4 + 4 * math.cos(math.pi / 4), rel=1e-6)
    assert optim.Schedule(8.0, 12, fall="constant")(99) == 8
    recipe = optim.Recipe("b1.58", 10_000)
    rates = [recipe.lr(step) for step in (375, 4_999, 5_000, 10_000)]
    assert rates == pytest.approx([1.5e-3, 8e-4, 5e-4, 0.0], rel=1e-3)
    decays = [recipe.weight_decay(step) for step in (0, 4_999, 5_000)]
    assert decays == pytest.approx([0.1, 0.1, 0.0])
    assert optim.Recipe("finetune", 100, peak=2.0).lr(5) == 2.0


def test_what_cannot_be_is_one_clear_line() -> None:
    owned = parameters()
    calls: list[tuple[Any, type[Exception], str]] = [
        (lambda: optim.AdamW([]), bn.OptionError, "none"),
        (lambda: optim.AdamW([*owned, owned[0]]), bn.OptionError, "once each, not 2"),
        (lambda: optim.AdamW([("w", owned[0]), ("w", owned[1])]), bn.OptionError, "not w"),
        (lambda: optim.AdamW([bn.Tensor([1.0])]), TypeError, "tuple"),  # type: ignore[arg-type]
        (lambda: optim.AdamW(owned, -1.0), bn.OptionError, "lr"),
        (lambda: optim.AdamW(owned, math.nan), bn.OptionError, "lr"),
        (lambda: optim.AdamW(owned, betas=(0.9, 1.0)), bn.OptionError, "betas"),
        (lambda: optim.AdamW(owned, moments="4bit"), bn.OptionError, "f32 or 8bit"),  # type: ignore[arg-type]
        (lambda: optim.SGD(owned, 1.0, momentum=-0.5), bn.OptionError, "momentum"),
        (lambda: optim.clip_grad_norm(owned, -1.0), bn.OptionError, "max_norm"),
        (lambda: setattr(optim.SGD(owned, 1.0), "weight_decay", math.inf), bn.OptionError, "weight_decay"),
        (lambda: optim.Recipe("b1.59", 10), bn.OptionError, r"b1\.59"),  # type: ignore[arg-type]
        (lambda: optim.Schedule(1.0, 10, fall="steep"), bn.OptionError, "steep"),  # type: ignore[arg-type]
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message):
            call()
