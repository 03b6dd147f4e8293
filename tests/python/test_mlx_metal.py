"""The source of the Metal kernel, compiled as C++ and run on the CPU: its sums, its rows and its bounds.

MLX runs such kernels on Apple GPUs alone. What this does not see are the rules of Metal's own compiler.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import bitnet_rust as bn
import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="needs the extra mlx")

import mlx.core as mx
from bitnet_rust.mlx import metal, packing
from mlx_arrays import to_mlx, to_numpy

COMPILER = shutil.which("c++") or shutil.which("clang++")

# Lanes run one after another, lane 0 last: then simd_sum() gives lane 0 the sum of all, and lane 0 alone
# writes.
HOST = r"""
#include <algorithm>
#include <cstdint>
#include <vector>
using std::min;
typedef unsigned int uint;
struct char4 { signed char x, y, z, w; };
struct int4 {
    int x, y, z, w;
    explicit int4(char4 v) : x(v.x), y(v.y), z(v.z), w(v.w) {}
};
struct uint3 { uint x, y, z; };
#define device
static std::vector<int> calls;
static size_t call;
static int simd_sum(int value) {
    if (calls.size() == call) calls.push_back(0);
    return calls[call++] += value;
}
static void kernel(const signed char *x, const uint32_t *words, float *y, uint3 thread_position_in_grid,
                   uint thread_index_in_simdgroup) {
%s
}
extern "C" void run(const signed char *x, const uint32_t *words, float *y, uint threads) {
    for (uint first = 0; first < threads; first += 32) {
        calls.clear();
        for (uint lane = 32; lane-- > 0;) {
            call = 0;
            kernel(x, words, y, uint3{first + lane, 0, 0}, lane);
        }
    }
}
"""


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(
    ("tokens", "rows", "columns"), [(1, 1, 16), (1, 9, 640), (3, 8, 528), (8, 33, 96), (2, 4, 6912)]
)
def test_the_kernel_gives_the_integer_sums(tmp_path: Path, tokens: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    codes = rng.integers(-1, 2, (rows, columns)).astype(np.int8)
    x = np.zeros((tokens, packing.padded(columns)), np.int8)
    x[:, :columns] = rng.integers(-128, 128, (tokens, columns))
    words = np.ascontiguousarray(to_numpy(packing.pack(to_mlx((codes + 1).astype(np.uint8)))))

    defines = [f"-DTOKENS={tokens}", f"-DROWS={rows}", f"-DWORDS={words.shape[1]}"]
    source, library = tmp_path / "kernel.cpp", tmp_path / "kernel.so"
    source.write_text(HOST % metal.SOURCE)
    assert COMPILER is not None
    subprocess.run(
        [
            COMPILER,
            "-std=c++17",
            "-O1",
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            *defines,
            "-o",
            library,
            source,
        ],
        check=True,
    )
    y = np.full((tokens * rows + 8,), np.nan, np.float32)
    groups = -(-rows // metal.ROWS_PER_GROUP)
    ctypes.CDLL(str(library)).run(
        *(ctypes.c_void_p(array.ctypes.data) for array in (x, words, y)), ctypes.c_uint(groups * metal.LANES)
    )
    expected = bn.TernaryMatrix(codes, 1.0).matmul(np.ascontiguousarray(x[:, :columns]))
    np.testing.assert_array_equal(y[: tokens * rows].reshape(tokens, rows), expected)
    assert np.isnan(y[tokens * rows :]).all()


def test_a_cpu_does_not_run_it() -> None:
    assert not metal.is_used()
    with pytest.raises(Exception, match=r"(?i)metal"):
        mx.eval(metal.ternary_sums(mx.zeros((1, 32), dtype=mx.int8), mx.zeros((4, 2), dtype=mx.uint32)))
