"""Layers: gradients, the integer kernel, modules, and a loop of one's own."""

from __future__ import annotations

import copy
import importlib.util
import math
import pickle
from pathlib import Path
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from arrays import Array
from bitnet_rust import nn
from bitnet_rust.nn import functional as F  # noqa: N812
from gradients import check_gradients, near, wave


def logits_loss(z: Array, targets: Array) -> Any:
    """Mean cross-entropy over the targets that are not -100."""
    z, targets = z.reshape(-1, z.shape[-1]), targets.reshape(-1)
    kept = targets != -100
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return -log_p[kept, targets[kept]].mean()


def erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf)(x))


def gelu_tanh(x: Array) -> Array:
    return np.asarray(x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2)


def test_functions_and_their_gradients() -> None:
    x = wave(3, 4)
    check_gradients(F.relu2, lambda x: np.maximum(x, 0) ** 2, x)
    check_gradients(F.gelu, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2, x)
    check_gradients(lambda x: F.gelu(x, approximate="tanh"), gelu_tanh, x)
    ids = np.array([[2, 0, 2], [1, 2, 3]])
    check_gradients(lambda table: F.embedding(ids, table), lambda table: table[ids], wave(4, 5))
    targets = np.array([[2, -100, 0], [3, 1, 1]])
    check_gradients(
        lambda z: F.cross_entropy(z, targets, ignore_index=-100),
        lambda z: logits_loss(z, targets),
        wave(2, 3, 4),
    )
    check_gradients(
        lambda h, w: F.linear_cross_entropy(h, w, bn.Tensor(targets), ignore_index=-100),
        lambda h, w: logits_loss(h @ w.T, targets),
        wave(2, 3, 5),
        wave(4, 5),
    )


def rotated(x: Array, lengths: list[int], theta: float) -> Array:
    positions = np.concatenate([np.arange(length) for length in lengths])
    half = x.shape[-1] // 2
    angles = positions[:, None, None] * theta ** (-np.arange(half) / half)
    low, high = x[..., :half], x[..., half:]
    return np.concatenate(
        [low * np.cos(angles) - high * np.sin(angles), high * np.cos(angles) + low * np.sin(angles)], -1
    )


def attended(q: Array, k: Array, v: Array, lengths: list[int], scale: float) -> Array:
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(group, 1), v.repeat(group, 1)
    out, start = np.zeros_like(q), 0
    for length in lengths:
        rows = slice(start, start + length)
        scores = scale * np.einsum("ihd,jhd->hij", q[rows], k[rows])
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        out[rows] = np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v[rows])
        start += length
    return out


def test_rope_and_attention() -> None:
    q, k, v = wave(5, 4, 6), wave(5, 2, 6), wave(5, 2, 6) + 0.3
    check_gradients(lambda x: F.rope(x, theta=100.0), lambda x: rotated(x, [5], 100.0), q)
    check_gradients(lambda x: F.rope(x, lengths=[2, 3]), lambda x: rotated(x, [2, 3], 10000.0), k)
    check_gradients(F.attention, lambda q, k, v: attended(q, k, v, [5], 6**-0.5), q, k, v)
    check_gradients(
        lambda q, k, v: F.attention(q, k, v, lengths=[4, 1], scale=0.7),
        lambda q, k, v: attended(q, k, v, [4, 1], 0.7),
        q,
        k,
        v,
    )


def test_what_does_not_fit_is_one_clear_line() -> None:
    x, table = bn.Tensor(wave(3, 4)), bn.Tensor(wave(5, 4))
    calls: list[tuple[Any, type[Exception], str]] = [
        (lambda: F.embedding([5], table), bn.OutOfRangeError, "token 5"),
        (lambda: F.embedding([-1], table), bn.OutOfRangeError, "-1"),
        (lambda: F.embedding([0.5], table), bn.DTypeError, "integers"),
        (lambda: F.embedding([0], x[0]), bn.ShapeError, "embedding"),
        (lambda: F.cross_entropy(x, [0, 1]), bn.ShapeError, "targets"),
        (lambda: F.cross_entropy(x, [0, 1, 4]), bn.OutOfRangeError, "token 4"),
        (lambda: F.cross_entropy(x, [7, 7, 7], ignore_index=7), bn.DataError, "target"),
        (lambda: F.bit_linear(x, table[:, :3]), bn.ShapeError, "weights"),
        (lambda: F.bit_linear(x, table, clip=0.0), bn.OptionError, "limit"),
        (lambda: F.bit_linear(x, table, blend=1.5), bn.OptionError, "lambda"),
        (lambda: F.bit_linear(x, table, clip=1.0, blend=0.5), bn.OptionError, "exclude"),
        (lambda: F.bit_linear(x, table * math.nan), bn.QuantizationError, "finite"),
        (lambda: F.gelu(x, approximate="erf"), bn.OptionError, "erf"),  # type: ignore[arg-type]
        (lambda: F.rope(x), bn.ShapeError, "rope"),
        (lambda: F.rope(bn.Tensor(wave(3, 1, 4)), lengths=[2]), bn.ShapeError, "rotated"),
        (lambda: F.attention(x, x, x), bn.ShapeError, "attention"),
        (lambda: nn.Linear(-1, 2), bn.OptionError, "in_features"),
        (lambda: nn.Module()(x), NotImplementedError, "Module has no forward"),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)


# --- BitLinear -----------------------------------------------------------------------------------


def test_the_product_of_a_bit_linear_is_the_integer_kernel_of_inference() -> None:
    layer, x = nn.BitLinear(48, 20), wave(2, 5, 48).astype(np.float32)
    y = layer(bn.Tensor(x))
    assert y.requires_grad
    ternary = layer.ternary()
    assert set(np.unique(ternary.codes)) == {-1, 0, 1}
    np.testing.assert_array_equal(y.detach().numpy().reshape(10, 20), ternary.matmul(x.reshape(10, 48)))
    codes, scales = bn.quantize_activations(x.reshape(10, 48))
    exact = codes.astype(np.int64) @ ternary.codes.T.astype(np.int64)
    near(y.detach().numpy().reshape(10, 20), exact * ternary.scale / scales.reshape(10, 1))
    with bn.no_grad():
        np.testing.assert_array_equal(layer(bn.Tensor(x)).numpy(), y.detach().numpy())


def test_gradients_of_a_bit_linear_go_straight_through() -> None:
    w, x = wave(4, 6).astype(np.float32), wave(3, 6).astype(np.float32)
    dy = wave(3, 4).astype(np.float32)
    ternary = bn.quantize_weights(w)
    codes, scales = bn.quantize_activations(x)
    q_w, q_x = ternary.dequantize().astype(np.float64), codes / scales.reshape(3, 1).astype(np.float64)
    within = np.abs(w) <= 1.2 * np.abs(w).mean()
    assert within.any()
    assert not within.all()
    for clip, kept in ((None, 1.0), (1.2, within)):
        leaf, weight = bn.Tensor(x, requires_grad=True), nn.Parameter(w)
        F.bit_linear(leaf, weight, clip=clip).backward(bn.Tensor(dy))
        assert leaf.grad is not None
        assert weight.grad is not None
        near(leaf.grad.numpy(), dy @ q_w)
        near(weight.grad.numpy(), dy.T @ q_x * kept)
    blended = [bn.Tensor(x, requires_grad=True), nn.Parameter(w)]
    y = F.bit_linear(*blended, blend=0.25)
    some_x, some_w = x + 0.25 * (q_x - x), w + 0.25 * (q_w - w)
    near(y.detach().numpy(), some_x @ some_w.T)
    y.backward(bn.Tensor(dy))
    assert blended[0].grad is not None
    assert blended[1].grad is not None
    near(blended[0].grad.numpy(), dy @ some_w)
    near(blended[1].grad.numpy(), dy.T @ some_x)


# --- Modules ---------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(7, 8)
        self.layers = [nn.BitLinear(8, 8, bias=True), nn.Linear(8, 8, bias=True)]
        self.extra = {"norm": nn.RMSNorm(8), "note": "no parameter"}
        self.head = self.embed.weight
        self.scale = nn.Parameter([0.5])

    def forward(self, ids: Array) -> bn.Tensor:
        h: bn.Tensor = self.embed(ids)
        for layer in self.layers:
            h = h + layer(h) * self.scale
        norm: Any = self.extra["norm"]
        y: bn.Tensor = norm(h) @ self.head.T
        return y


NAMES = {
    "embed.weight": (7, 8),
    "layers.0.weight": (8, 8),
    "layers.0.bias": (8,),
    "layers.1.weight": (8, 8),
    "layers.1.bias": (8,),
    "extra.norm.weight": (8,),
    "scale": (1,),
}


def test_modules_know_their_parameters() -> None:
    net = Net()
    assert {name: parameter.shape for name, parameter in net.named_parameters()} == NAMES
    assert [name for name, parameter in net.named_parameters() if parameter.decays] == [
        "layers.0.weight",
        "layers.1.weight",
    ]
    loss = F.cross_entropy(net(np.array([1, 2, 6])), [2, 6, 0])
    loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_state_of_a_module_is_taken_and_given() -> None:
    net, other = Net(), Net()
    ids = np.array([1, 2, 6])
    state = net.state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == NAMES
    assert not any(tensor.requires_grad for tensor in state.values())
    assert net(ids).tolist() != other(ids).tolist()
    other.load_state_dict({name: tensor.numpy().astype(np.float64) for name, tensor in state.items()})
    assert net(ids).tolist() == other(ids).tolist()
    # What a tied embedding gets, its other use has.
    net.embed.weight.assign(np.ones((7, 8)))
    assert state["embed.weight"].tolist() != net.head.tolist() == np.ones((7, 8)).tolist()
    del state["scale"]
    before = other(ids).tolist()
    with pytest.raises(bn.CheckpointError, match=r"missing: \['scale'\]; unknown: \['scales'\]"):
        other.load_state_dict(state | {"scales": bn.Tensor([1.0])})
    with pytest.raises(bn.ShapeError, match="new value"):
        other.load_state_dict(state | {"scale": bn.Tensor([1.0, 2.0])})
    assert other(ids).tolist() == before


def test_parameters_are_tensors_that_change() -> None:
    p = nn.Parameter(np.arange(6.0).reshape(2, 3))
    assert isinstance(p, bn.Tensor)
    assert (p.dtype, p.requires_grad, p.decays) == ("f32", True, True)
    assert not nn.Parameter([1.0]).decays
    assert nn.Parameter([1.0], decays=True).decays
    view, memory = p.T, p.detach().numpy()
    p.assign(bn.Tensor(np.ones((2, 3), np.float16)))
    assert p.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert view.tolist() == memory.T.tolist() == np.arange(6.0).reshape(2, 3).T.tolist()
    for again in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
        assert isinstance(again, nn.Parameter)
        assert (again.tolist(), again.decays) == (p.tolist(), p.decays)
    net = Net()
    twin = copy.deepcopy(net)
    assert twin.head is twin.embed.weight
    assert twin([3]).tolist() == net([3]).tolist()
    with pytest.raises(bn.ShapeError, match="new value"):
        p.assign([1.0])
    with pytest.raises(bn.DTypeError, match="floats"):
        nn.Parameter([1, 2])
    with pytest.raises(bn.GradientError, match="has no gradient"):
        p.assign(p * 2)


def test_first_weights_follow_the_seed() -> None:
    def drawn(seed: int) -> list[Any]:
        nn.manual_seed(seed)
        return [nn.Linear(16, 4).weight.tolist(), nn.BitLinear(16, 4).weight.tolist()]

    first = drawn(3)
    assert first == drawn(3) != drawn(4)
    assert first[0] != first[1]
    weight = nn.Linear(256, 256).weight.detach().numpy()
    # Of 65536 numbers: within some standard errors.
    assert abs(weight.std() * 16 - 1) < 0.02
    assert abs(nn.Embedding(512, 128).weight.detach().numpy().std() / 0.02 - 1) < 0.02
    bias = nn.Linear(4, 3, bias=True).bias
    assert bias is not None
    assert bias.tolist() == [0, 0, 0]
    assert nn.RMSNorm(3).weight.tolist() == [1, 1, 1]


def test_a_network_of_ternary_weights_learns_the_digits_of_scikit_learn() -> None:
    path = Path(__file__).parents[2] / "python" / "examples" / "digits.py"
    spec = importlib.util.spec_from_file_location("digits", path)
    assert spec is not None
    assert spec.loader is not None
    digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(digits)
    nn.manual_seed(0)
    assert digits.main() >= 0.95
