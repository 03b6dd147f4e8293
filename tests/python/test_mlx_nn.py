"""BitLinear on MLX: the native layer's values and gradients, and those of finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="needs the extra mlx")

import mlx.core as mx
import mlx.nn as mlx_nn
import mlx.optimizers as optim
from arrays import Array
from bitnet_rust.mlx import nn
from bitnet_rust.mlx.straight_through import bit_linear, quantize_weights
from bitnet_rust.nn import functional as F  # noqa: N812
from gradients import near, wave
from mlx.utils import tree_flatten
from mlx_arrays import to_mlx, to_numpy

Function = Callable[[mx.array, mx.array], mx.array]


def native(x: Array, w: Array, dy: Array, clip: float | None, blend: float) -> list[Array]:
    """y, dx and dW of the trainer."""
    leaves = [bn.Tensor(array.astype(np.float32), requires_grad=True) for array in (x, w)]
    y = F.bit_linear(*leaves, clip=clip, blend=blend)
    y.backward(bn.Tensor(dy.astype(np.float32)))
    grads = [leaf.grad for leaf in leaves]
    return [y.detach().numpy(), *(grad.numpy() for grad in grads if grad is not None)]


def ours(function: Function, x: Array, w: Array, dy: Array) -> list[Array]:
    y, grads = mx.vjp(function, [to_mlx(x), to_mlx(w)], [to_mlx(dy)])
    return [to_numpy(y[0]), *map(to_numpy, grads)]


@pytest.mark.parametrize("shape", [(6, 7), (1, 64), (2, 3, 65)])
@pytest.mark.parametrize(("clip", "blend"), [(None, 1.0), (1.5, 1.0), (None, 0.0), (None, 0.4)])
def test_values_and_gradients_are_those_of_the_trainer(
    shape: tuple[int, ...], clip: float | None, blend: float
) -> None:
    x, w = wave(*shape), wave(5, shape[-1])
    dy = wave(*shape[:-1], 5, low=-1, high=1)
    expected = native(x, w, dy, clip, blend)
    got = ours(lambda x, w: bit_linear(x, w, clip=clip, blend=blend), x, w, dy)
    assert len(expected) == 3
    for mine, theirs in zip(got, expected, strict=True):
        near(mine, theirs)


def test_outputs_are_the_bits_of_the_trainer() -> None:
    """For masters of whole numbers, whose mean is the same in any order; sums and scales follow exactly."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((40, 64)).astype(np.float32), rng.integers(-3, 4, (32, 64)).astype(np.float32)
    expected = F.bit_linear(bn.Tensor(x), bn.Tensor(w)).numpy()
    np.testing.assert_array_equal(to_numpy(bit_linear(to_mlx(x), to_mlx(w))), expected)


def test_the_scale_of_a_large_master_is_that_of_the_engine() -> None:
    w = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    codes, scale = quantize_weights(to_mlx(w))
    ternary = bn.quantize_weights(w)
    # The CPU device of MLX adds a row in float32, one number after another.
    assert scale.item() == pytest.approx(ternary.scale, rel=2e-6)
    assert (to_numpy(codes) != ternary.codes).sum() <= 8


def test_without_rounding_gradients_are_finite_differences() -> None:
    """A blend of 0 is y = x W^T, whose slopes can be measured."""
    x, w, dy = wave(4, 6), wave(3, 6), wave(4, 3)
    _, dx, dw = ours(lambda x, w: bit_linear(x, w, blend=0.0), x, w, dy)
    step = 1e-3
    for array, gradient in ((x, dx), (w, dw)):
        for at in np.ndindex(array.shape):
            moved = [array.copy(), array.copy()]
            moved[0][at] += step
            moved[1][at] -= step
            losses = [((other @ w.T if array is x else x @ other.T) * dy).sum() for other in moved]
            assert gradient[at] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-5)


def test_the_gradient_is_that_of_the_product_of_quantized_values() -> None:
    """Q(x) and Q(W) move in the float64 product that stands behind y: dx and dW are its slopes."""
    x, w, dy = wave(4, 6), wave(3, 6), wave(4, 3)
    codes, x_scales = bn.quantize_activations(x.astype(np.float32))
    x_q = codes / x_scales.reshape(-1, 1).astype(np.float64)
    w_q = bn.quantize_weights(w.astype(np.float32)).dequantize().astype(np.float64)
    _, dx, dw = ours(bit_linear, x, w, dy)
    step = 1e-4

    def loss(x: Array, w: Array) -> float:
        return float(((x @ w.T) * dy).sum())

    for at in np.ndindex(x.shape):
        by = np.zeros_like(x_q)
        by[at] = step
        assert dx[at] == pytest.approx((loss(x_q + by, w_q) - loss(x_q - by, w_q)) / (2 * step), abs=1e-5)
    for at in np.ndindex(w.shape):
        by = np.zeros_like(w_q)
        by[at] = step
        assert dw[at] == pytest.approx((loss(x_q, w_q + by) - loss(x_q, w_q - by)) / (2 * step), abs=1e-5)


def test_a_quantized_layer_is_the_trained_one() -> None:
    layer = nn.BitLinear(70, 9, bias=True, norm=mlx_nn.RMSNorm(70))
    layer.bias = to_mlx(wave(9))
    packed = layer.to_quantized()
    x = to_mlx(wave(2, 3, 70))
    near(to_numpy(packed(x)), to_numpy(layer(x)))
    assert packed.weight.shape == (9, 6)
    assert tree_flatten(packed.trainable_parameters()) == []


def test_quantize_of_mlx_packs_the_layers_of_a_network() -> None:
    network = mlx_nn.Sequential(nn.BitLinear(32, 64), mlx_nn.ReLU(), nn.BitLinear(64, 3))
    x = to_mlx(wave(5, 32))
    expected = to_numpy(network(x))
    mlx_nn.quantize(network)
    assert all(isinstance(network.layers[index], nn.QuantizedBitLinear) for index in (0, 2))
    near(to_numpy(network(x)), expected)


def test_the_input_of_a_packed_layer_gets_its_gradient() -> None:
    layer = nn.BitLinear(70, 9)
    packed = layer.to_quantized()
    x, dy = to_mlx(wave(4, 70)), to_mlx(wave(4, 9))
    gradients = [mx.vjp(each, [x], [dy])[1][0] for each in (layer, packed)]
    near(to_numpy(gradients[1]), to_numpy(gradients[0]))


def test_codes_and_scale_stay_frozen() -> None:
    packed = nn.BitLinear(32, 4, norm=mlx_nn.RMSNorm(32)).to_quantized()
    packed.unfreeze()
    assert [name for name, _ in tree_flatten(packed.trainable_parameters())] == ["norm.weight"]


def test_a_network_learns() -> None:
    mx.random.seed(0)
    network = mlx_nn.Sequential(nn.BitLinear(16, 64), mlx_nn.ReLU(), nn.BitLinear(64, 1, bias=True))
    x = mx.random.normal((256, 16))
    y = mx.sin(x[:, :1]) + x[:, 1:2]

    def loss() -> mx.array:
        return mx.square(network(x) - y).mean()

    step = mlx_nn.value_and_grad(network, loss)
    optimizer = optim.Adam(learning_rate=5e-3)
    first = loss().item()
    for _ in range(60):
        _, gradients = step()
        optimizer.update(network, gradients)
        mx.eval(network.parameters(), optimizer.state)
    assert loss().item() < first / 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blend": 1.5}, "blend must be from 0 to 1, not 1.5"),
        ({"clip": 0.0}, "clip must be above 0, not 0.0"),
        ({"clip": 1.0, "blend": 0.5}, "clip and blend exclude each other"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nn.BitLinear(4, 4, **options)(mx.ones((1, 4)))


def test_inputs_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="x has 31 columns; the layer takes 30"):
        nn.QuantizedBitLinear(30, 4)(mx.ones((1, 31)))
    with pytest.raises(ValueError, match="131072 columns"):
        nn.QuantizedBitLinear(1 << 17, 1)
