"""Fixtures for the tests in this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

FIXTURES = Path(__file__).parent.parent / "fixtures"
SHARED = Path(__file__).parents[3] / "shared"

# More cases of each property where there is a night to try them.
settings.register_profile("nightly", max_examples=1000)
if "BITNET_NIGHTLY" in os.environ:
    settings.load_profile("nightly")


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
