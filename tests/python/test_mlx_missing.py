"""Without MLX the package works, and what needs MLX says how to get it."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = "import sys; sys.modules['mlx'] = sys.modules['mlx.core'] = None; import bitnet_rust as bn; "


@pytest.mark.parametrize("code", ["import bitnet_rust.mlx", "bn.load('x', device='mlx')"])
def test_the_error_says_what_to_install(code: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == "ImportError: bitnet_rust.mlx needs MLX: pip install 'bitnet-rust[mlx]'"


def test_the_package_does_not_import_mlx() -> None:
    code = BLOCKED + "print(bn.load().config.hidden_size)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "256"
