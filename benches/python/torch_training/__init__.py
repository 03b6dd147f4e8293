"""The same training by plain PyTorch: what `bitnet train` is compared with.

`make bench-train` measures a step of both in turns; `make train-curve` trains both on a text, from the same
weights and in the same order, and draws their losses. PyTorch is installed into a venv of its own.
"""
