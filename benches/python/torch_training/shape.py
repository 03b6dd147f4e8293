"""The batch of a step: 8 sequences of 256 tokens."""

from __future__ import annotations

ROWS = 8
SEQ_LEN = 256
