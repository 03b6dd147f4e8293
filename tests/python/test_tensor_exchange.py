"""Memory that tensors share with NumPy and others, and how long it lives."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import bitnet_rust as bn
import numpy as np
import pytest
from arrays import Array, address, arrays, check
from hypothesis import given

# --- NumPy ---------------------------------------------------------------------------------------


@given(arrays())
def test_numpy_shares_memory_both_ways(a: Array) -> None:
    x = bn.Tensor.from_numpy(a)
    back = np.asarray(x)
    check(x, a)
    assert not back.flags.writeable
    if a.size:
        assert address(back) == address(a)
        assert [s for s, n in zip(back.strides, a.shape, strict=True) if n > 1] == [
            s for s, n in zip(a.strides, a.shape, strict=True) if n > 1
        ]
    assert np.array_equal(x.numpy(), a, equal_nan=a.dtype.kind == "f")


def test_a_tensor_sees_what_is_written_to_its_array() -> None:
    a = np.zeros((2, 3), np.float32)
    x = bn.Tensor.from_numpy(a.T)
    a[1, 2] = 7
    assert x[2, 1].item() == 7
    assert bn.Tensor(a).sum().item() == 7
    copied = bn.Tensor(a)
    a[:] = 0
    assert copied.sum().item() == 7


def test_memory_lives_as_long_as_anyone_holds_it() -> None:
    a = np.arange(1000, dtype=np.int64)
    owner = weakref.ref(a)
    x = bn.Tensor.from_numpy(a)[10:20]
    del a
    gc.collect()
    assert owner() is not None
    assert x.tolist() == list(range(10, 20))
    back = np.asarray(x)
    del x
    gc.collect()
    assert back.tolist() == list(range(10, 20))
    assert owner() is not None
    del back
    gc.collect()
    bn.Tensor.ones(1)  # what was dropped without the GIL goes now
    assert owner() is None


def test_an_array_outlives_the_tensor_that_made_its_memory() -> None:
    array = np.asarray(bn.Tensor.arange(100_000) + 1)[::-1]
    gc.collect()
    other = bn.Tensor.zeros(100_000, "i64")
    assert array[0] == 100_000
    assert array[-1] == 1
    assert other.sum().item() == 0


def test_array_protocol_converts_and_copies_as_asked() -> None:
    x = bn.Tensor([[1, 2], [3, 4]], "i8")
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert x.__array__(np.int8).dtype == np.int8
    assert address(x.__array__()) == address(x)
    assert address(x.__array__(copy=True)) != address(x)
    assert np.array(x, copy=True).flags.writeable
    with pytest.raises(ValueError, match="copy"):
        x.__array__(np.float32, copy=False)
    assert np.add(x, 1).tolist() == [[2, 3], [4, 5]]
    assert bytes(np.asarray(x).data) == bytes([1, 2, 3, 4])


def test_numpy_has_no_bf16() -> None:
    x = bn.Tensor([1.0, 0.1], "bf16")
    calls: list[Callable[[], Any]] = [lambda: np.asarray(x), x.numpy, x.__array__]
    for call in calls:
        with pytest.raises(bn.DTypeError, match=r'\.to\("f32"\)'):
            call()
    assert np.asarray(x.to("f32")).tolist() == [1.0, 0.10009765625]


def test_what_cannot_be_shared_is_refused_and_converted_when_copied() -> None:
    wide = np.array([1.5, 2.5])
    with pytest.raises(bn.DTypeError, match=r"float64; bn\.Tensor\(array\)"):
        bn.Tensor.from_numpy(wide)
    check(bn.Tensor(wide), wide.astype(np.float32))
    with pytest.raises(bn.DTypeError, match=">f4"):
        bn.Tensor.from_numpy(wide.astype(">f4"))
    check(bn.Tensor(wide.astype(">f4")), wide.astype(np.float32))
    with pytest.raises(TypeError, match="NumPy array, not list"):
        bn.Tensor.from_numpy([1, 2])  # type: ignore[arg-type]
    records = np.zeros(3, np.dtype([("a", "i1"), ("b", "<i4")]))
    with pytest.raises(ValueError, match="strides"):
        bn.Tensor.from_numpy(records["b"])
    check(bn.Tensor(records["b"]), records["b"])
    wrongs: list[Any] = [np.zeros(2, complex), ["a"], [object()], np.zeros(1, "M8[s]")]
    for wrong in wrongs:
        with pytest.raises(bn.DTypeError, match="does not hold"):
            bn.Tensor(wrong)


def test_misaligned_memory_is_read() -> None:
    memory = np.arange(41, dtype=np.uint8)
    a = memory[1:].view(np.float32)
    check(bn.Tensor.from_numpy(a) * 1, a)
    check(bn.Tensor.from_numpy(a[::-2]).contiguous(), a[::-2])


# --- DLPack --------------------------------------------------------------------------------------


class Old:
    """A producer from before DLPack 1.0."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, stream: None = None) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.array.__dlpack_device__()
        return device


@given(arrays())
def test_dlpack_shares_memory_both_ways(a: Array) -> None:
    back = np.from_dlpack(bn.Tensor.from_numpy(a))
    np.testing.assert_array_equal(back, a)
    assert back.dtype == a.dtype
    assert not back.flags.writeable or a.size == 0
    writeable = a.copy()
    for producer in (writeable, Old(writeable)):
        x = bn.Tensor.from_dlpack(producer)
        check(x, writeable)
        if a.size:
            assert address(back) == address(a)
            assert address(x) == address(writeable)


def test_dlpack_memory_lives_as_long_as_anyone_holds_it() -> None:
    a = np.arange(1000, dtype=np.float32)
    owner = weakref.ref(a)
    x = bn.Tensor.from_dlpack(a)[::-1]
    del a
    gc.collect()
    back = np.from_dlpack(x)
    del x
    gc.collect()
    assert owner() is not None
    assert back[0] == 999
    del back
    gc.collect()
    bn.Tensor.ones(1)
    assert owner() is None


def test_capsules_that_nobody_takes_are_freed() -> None:
    a = np.arange(1000, dtype=np.float32)
    owner = weakref.ref(a)
    x = bn.Tensor.from_numpy(a)
    capsules = [x.__dlpack__(max_version=(1, 0)), x.__dlpack__()]
    del a, x
    gc.collect()
    assert owner() is not None
    del capsules
    gc.collect()
    bn.Tensor.ones(1)
    assert owner() is None


def test_an_old_capsule_is_a_copy_since_it_cannot_say_read_only() -> None:
    x = bn.Tensor([1, 2, 3], "f32")
    old = np.from_dlpack(Old(x))
    assert address(old) != address(x)
    assert old.tolist() == [1, 2, 3]
    assert "dltensor_versioned" in repr(x.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(x.__dlpack__(max_version=(0, 8)))
    with pytest.raises(BufferError, match="read-only"):
        x.__dlpack__(copy=False)
    with pytest.raises(BufferError, match="CPU"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError, match="stream"):
        x.__dlpack__(stream=1)  # type: ignore[arg-type]
    assert x.__dlpack_device__() == (1, 0)


class Once:
    """Gives the same capsule again and again."""

    def __init__(self, capsule: Any, device: int = 1) -> None:
        self.capsule = capsule
        self.device = device

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.device, 0)


def test_what_is_no_dlpack_tensor_is_refused() -> None:
    once = Once(np.ones(2, np.float32).__dlpack__())
    bn.Tensor.from_dlpack(once)
    with pytest.raises(ValueError, match="used up"):
        bn.Tensor.from_dlpack(once)
    with pytest.raises(bn.DeviceError, match="device 2"):
        bn.Tensor.from_dlpack(Once(None, device=2))
    with pytest.raises(bn.DTypeError, match="type 2 of 64 bits"):
        bn.Tensor.from_dlpack(np.ones(2))
    with pytest.raises(TypeError, match="not list"):
        bn.Tensor.from_dlpack([1])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        bn.Tensor.from_dlpack(Once(5))


def test_pytorch_shares_memory_both_ways() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = bn.Tensor.arange(6, dtype="f32").reshape(2, 3)
    there = torch.from_dlpack(x.T)
    assert there.tolist() == [[0, 3], [1, 4], [2, 5]]
    for dtype in (
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int8,
        torch.uint8,
        torch.int64,
        torch.bool,
    ):
        source = torch.tensor([[1, 0], [2, 3]]).to(dtype).T
        here = bn.Tensor.from_dlpack(source)
        assert here.to("f32").tolist() == source.float().tolist()
        assert torch.from_dlpack(here).dtype == dtype


def test_jax_shares_memory_both_ways() -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    x = bn.Tensor.arange(6, dtype="f32").reshape(2, 3)
    assert jax.numpy.from_dlpack(x).tolist() == x.tolist()
    assert bn.Tensor.from_dlpack(jax.numpy.ones((2, 2), "bfloat16")).dtype == "bf16"


def test_mlx_shares_memory_both_ways() -> None:
    mx = pytest.importorskip("mlx.core", reason="MLX is not installed")
    x = bn.Tensor.arange(6, dtype="f32").reshape(2, 3)
    assert mx.array(np.asarray(x)).tolist() == x.tolist()
    assert bn.Tensor.from_dlpack(mx.ones((2, 2))).tolist() == [[1, 1], [1, 1]]


# --- Leaks ----------------------------------------------------------------------------------------


CONSUMERS: dict[str, Callable[[bn.Tensor], Any]] = {
    "asarray": np.asarray,
    "from_dlpack": np.from_dlpack,
    "numpy": lambda x: x.numpy(),
    "view": lambda x: x[1:],
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_thousand_objects_leave_nothing_behind(name: str) -> None:
    made: list[weakref.ref[Any]] = []
    for _ in range(1000):
        a = np.ones(4, np.float32)
        made.append(weakref.ref(a))
        CONSUMERS[name](bn.Tensor.from_numpy(a))
    del a
    gc.collect()
    bn.Tensor.ones(1)
    assert not any(ref() is not None for ref in made)
