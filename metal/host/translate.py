#!/usr/bin/env python3
"""Turn .metal files into one C++ file.

Macros cannot do all of it: constructors of vectors, variables in threadgroup memory, function constants,
and the attributes that say where the arguments of a kernel come from. The rest is left to the headers in
shim/. With --address-spaces the result is C++ for OpenCL, for the headers in address_spaces/, and is only
type-checked.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

BUILTINS = {
    "thread_position_in_grid",
    "threadgroup_position_in_grid",
    "threads_per_threadgroup",
    "thread_index_in_threadgroup",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
    "simdgroups_per_threadgroup",
}
VECTOR = re.compile(r"\b((?:bool|u?char|u?short|u?int|half|float)[234])\(")
FUNCTION_CONSTANT = re.compile(r"\bconstant\s+(\w+)\s+(\w+)\s*\[\[function_constant\((\d+)\)\]\];")
THREADGROUP_VARIABLE = re.compile(r"\bthreadgroup\s+(\w+)\s+(\w+)(\[[^;]*\])?;")
KERNEL = re.compile(
    r"(?P<template>template\s*<[^>]*>\s*)?"
    r"(?:\[\[max_total_threads_per_threadgroup\((?P<threads>\d+)\)\]\]\s*)?"
    r"\bkernel\s+void\s+(?P<name>\w+)\s*\((?P<parameters>.*?)\)\s*\{",
    re.DOTALL,
)
INSTANCE = re.compile(r'^INSTANTIATE\("(\w+)", (\w+), ([^\n]*)\)$', re.MULTILINE)
INSTANTIATE = re.compile(r"#define INSTANTIATE\(.*?[^\\]\n", re.DOTALL)
ATTRIBUTE = re.compile(r"\[\[.*?\]\]", re.DOTALL)


@dataclass
class Kernel:
    """What the runtime has to know of a kernel, or of a template of kernels."""

    is_template: bool
    max_threads: int
    arguments: str


def inlined(path: Path, seen: set[Path]) -> str:
    """Read a file, with the headers that nothing before it has included."""
    if path in seen:
        return ""
    seen.add(path)

    def header(match: re.Match[str]) -> str:
        # The line that the include stood in, so that messages name the place.
        line = match.string[: match.start()].count("\n") + 2
        return f'{inlined(path.parent / match[1], seen)}#line {line} "{path.name}"'

    text = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8")).replace("#pragma once", "")
    return f'#line 1 "{path.name}"\n' + re.sub(r'#include "([^"]+)"', header, text) + "\n"


def argument(parameter: str, constants: dict[str, str]) -> str:
    """Say in C++ where an argument comes from."""
    attributes = re.search(r"\[\[(.*)\]\]", parameter)
    if attributes is None:
        raise SystemExit(f"no attribute says what this is: {parameter.strip()}")
    if place := re.match(r"(buffer|threadgroup)\((\d+)\)", attributes[1]):
        condition = re.search(r"function_constant\((\w+)\)", attributes[1])
        constant = constants[condition[1]] if condition else "-1"
        source = {"buffer": "Buffer", "threadgroup": "Shared"}[place[1]]
        return f"{{msl::Source::{source}, {place[2]}, {constant}}}"
    if attributes[1] not in BUILTINS:
        raise SystemExit(f"unknown attribute: {attributes[1]}")
    return f"{{msl::Source::{attributes[1]}, 0, -1}}"


def find_kernels(text: str, constants: dict[str, str]) -> dict[str, Kernel]:
    """Find kernels and templates of kernels by their names."""
    kernels = {}
    for match in KERNEL.finditer(text):
        arguments = [argument(p, constants) for p in re.split(r",(?![^\[]*\]\])", match["parameters"])]
        threads = int(match["threads"] or 1024)
        kernels[match["name"]] = Kernel(match["template"] is not None, threads, ", ".join(arguments))
    return kernels


def registration(host_name: str, function: str, kernel: Kernel) -> str:
    """Write the C++ that enters a kernel into the table of the runtime."""
    return f'MSL_KERNEL("{host_name}", ({function}), {kernel.max_threads}, {kernel.arguments})'


def translate(paths: list[Path]) -> str:
    """Write C++ for shim/."""
    seen: set[Path] = set()
    text = INSTANTIATE.sub("\n\n", "".join(inlined(path, seen) for path in paths))
    constants = {match[2]: match[3] for match in FUNCTION_CONSTANT.finditer(text)}
    kernels = find_kernels(text, constants)

    def instance(match: re.Match[str]) -> str:
        return registration(match[1], f"{match[2]}<{match[3]}>", kernels[match[2]])

    variables = 0

    def threadgroup_variable(match: re.Match[str]) -> str:
        nonlocal variables
        variables += 1
        kind, name, extent = match[1], match[2], match[3] or ""
        return f"{kind} (&{name}){extent} = msl::threadgroup_variable<{kind}{extent}>({variables});"

    text = INSTANCE.sub(instance, text)
    text = FUNCTION_CONSTANT.sub(r"static const msl::FunctionConstant<\1, \3> \2;", text)
    text = THREADGROUP_VARIABLE.sub(threadgroup_variable, text)
    text = VECTOR.sub(r"msl::make<\1>(", ATTRIBUTE.sub("", text))
    plain = [registration(name, name, kernel) for name, kernel in kernels.items() if not kernel.is_template]
    return "\n".join([text, *plain, ""])


def translate_for_address_spaces(paths: list[Path]) -> str:
    """Write C++ for OpenCL: kernels are functions, and their threadgroup variables pointers."""
    seen: set[Path] = set()
    text = INSTANTIATE.sub("\n\n", "".join(inlined(path, seen) for path in paths))
    text = INSTANCE.sub(r"template decltype(\2<\3>) \2<\3>;", text)
    text = FUNCTION_CONSTANT.sub(r"constant \1 \2 = 0;", text)
    text = THREADGROUP_VARIABLE.sub(r"threadgroup \1 *\2 = nullptr;", text)
    return VECTOR.sub(r"make<\1>(", ATTRIBUTE.sub("", text))


def main() -> None:
    """Translate the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address-spaces", action="store_true")
    parser.add_argument("output", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    arguments = parser.parse_args()
    translated = translate_for_address_spaces if arguments.address_spaces else translate
    arguments.output.write_text(translated(arguments.sources), encoding="utf-8")


if __name__ == "__main__":
    main()
