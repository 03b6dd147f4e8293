"""Fixtures for the tests in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures"
SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A small trained model in the dialect of microsoft/bitnet-b1.58-2B-4T, with its tokenizer."""
    return FIXTURES / "bitnet-tiny"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Token ids, logits and hidden states that transformers computed for `tiny` in float32."""
    return FIXTURES / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Larger models and their golden files, beside the repository where they are at hand."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"needs the folder {SHARED.name} beside the repository")
    return SHARED
