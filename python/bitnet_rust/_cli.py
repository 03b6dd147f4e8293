"""The `bitnet` command."""

import sys

from bitnet_rust._native import run_cli


def main() -> int:
    """Run the command line of this process and return its exit status."""
    return run_cli(sys.argv)
