"""Side by side with what PyPI offers for a BitNet checkpoint: `make bench-compare`.

Every engine reads the same weights and is measured in a process of its own, which prints rows of tokens per
second. What is not installed, or cannot run, is listed with the reason.
"""
