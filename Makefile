# What a developer, the git hooks and CI run, by the same names. `make` alone lists the targets.
# Needed: Python 3.10 or later with venv, and a Rust toolchain with rustfmt and clippy. The rest is
# installed into .venv. Written for GNU make 3.81 (macOS) and later.

.DEFAULT_GOAL := help
# cargo uses every core by itself.
.NOTPARALLEL:
SHELL := bash
# Tests import the installed package and nothing else.
unexport PYTHONPATH

VENV := .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := $(VENV)/Scripts
EXE := .exe
else
PYTHON ?= python3
BIN := $(VENV)/bin
EXE :=
endif
PY := $(BIN)/python$(EXE)
PIP := $(PY) -m pip --disable-pip-version-check --quiet
BITNET := $(BIN)/bitnet$(EXE)
# The engines that bench-compare measures have dependencies of their own; .venv stays without them.
COMPARE_VENV := .venv-compare
COMPARE_PY := $(COMPARE_VENV)/$(notdir $(BIN))/python$(EXE)
COMPARE_PIP := $(COMPARE_PY) -m pip --disable-pip-version-check --quiet
# So has what runs beside PyTorch.
TORCH_VENV := .venv-torch
TORCH_PY := $(TORCH_VENV)/$(notdir $(BIN))/python$(EXE)
TORCH_PIP := $(TORCH_PY) -m pip --disable-pip-version-check --quiet

CARGO ?= cargo
# Make it empty to let cargo write Cargo.lock while dependencies change.
CARGO_FLAGS ?= --locked
PROPTEST_CASES ?= 20000
# Of schedules, whose every case runs a model on up to fifteen texts, and alone on each again.
SCHEDULE_CASES ?= 1000
# What rustup calls a nightly toolchain with Miri; CI names one of a fixed day.
MIRI_TOOLCHAIN ?= nightly
BENCH_ARGS ?=

# PyO3 reads these two when its build script runs. The interpreter is ours, and libpython is never
# linked: only an interpreter loads the bridge, and a plain Python has no libpython to link with.
export PYO3_PYTHON := $(abspath $(PY))
export PYO3_BUILD_EXTENSION_MODULE := 1

# All that goes into the wheel. Directories are listed too: their time changes when a file goes.
WHEEL_SOURCES := $(wildcard Cargo.toml Cargo.lock pyproject.toml README.md LICENSE-*) \
	$(shell find crates python metal \( -name __pycache__ -o -name target \) -prune -o -print)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- Using it -------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.wheel-release ## Build and install the wheel, then generate text with the embedded model
	$(BITNET) run -p "My fellow citizens, today we"

.PHONY: wheel
wheel: $(VENV)/.wheel-release ## Build the release wheel into dist/ and install it into .venv

.PHONY: sdist
sdist: $(VENV)/.tools-build ## Build the source distribution into dist/
	$(PY) -m maturin sdist --out dist

# --- Checking it ----------------------------------------------------------------------------------
# The tests install a wheel of cargo's dev profile: it is optimised, it shares its dependencies with
# `cargo test`, and it keeps overflow checks and debug assertions. wheels.yml tests the release wheels.

# Tests that name no device are tests of the CPU.
test-rust test-scalar test-avx2 test-python nightly instructions: export BITNET_DEVICE := cpu

.PHONY: test
test: lint test-rust test-scalar test-avx2 test-python ## Everything CI runs: lint, Rust tests (best ISA, scalar, AVX2), Python tests

.PHONY: test-rust
test-rust: $(VENV)/.base ## Rust tests on the best instruction set of this CPU
	$(CARGO) test --workspace $(CARGO_FLAGS)

# All but what knows no instruction set: schedules, sampling, files, rules. The tests of kernels and backends compare all
# sets in every run; `make nightly` leaves nothing out. Packages are not chosen: each choice would compile dependencies anew.
ISA_TESTS := --workspace --tests $(CARGO_FLAGS) -- \
	$(addprefix --skip ,engine:: conversation:: conformance:: fallback:: hybrid:: embed:: sample:: monitor:: model_cache::) \
	$(addprefix --skip ,speculation:: convert:: verify:: report:: kernel::tests codec:: adapter::tests::the_contract) \
	$(addprefix --skip ,every_form_keeps_codes_and_scales eval_agrees batch:: chat::)

.PHONY: test-scalar
test-scalar: $(VENV)/.base ## Rust tests on the scalar reference kernels
	BITNET_ISA=scalar $(CARGO) test $(ISA_TESTS)

# `bitnet doctor` lists what the CPU has, the best one last. A doctor that fails is a failure, not a CPU without AVX2.
.PHONY: test-avx2
test-avx2: $(VENV)/.wheel-dev ## Rust tests on the AVX2 kernels (where the CPU has them and better ones)
	@report="$$($(BITNET) doctor)" || exit 1; \
	case "$$report" in \
	*" avx2,"*) BITNET_ISA=avx2 $(CARGO) test $(ISA_TESTS) ;; \
	*) echo "skipped: AVX2 is the best of this CPU, or it has none" ;; \
	esac

.PHONY: test-python
test-python: $(VENV)/.wheel-dev $(VENV)/.tools-dev ## Python tests against the installed wheel
	$(BITNET) doctor
	$(PY) -m pytest

.PHONY: test-torch
test-torch: $(TORCH_VENV)/.torch $(VENV)/.wheel-dev ## Tests beside PyTorch and transformers, in a venv of their own
	$(TORCH_PIP) install --force-reinstall --no-deps target/wheel-dev/*.whl
	$(TORCH_PY) -m pytest tests/python/test_transformers.py tests/python/test_tensor_exchange.py

.PHONY: nightly
nightly: $(VENV)/.wheel-dev $(VENV)/.tools-dev ## Long tests: ignored ones, more property cases, every test on scalar and AVX2
	BITNET_NIGHTLY=1 PROPTEST_CASES=$(PROPTEST_CASES) \
		$(CARGO) test --workspace --tests $(CARGO_FLAGS) -- --include-ignored --skip engine::tests::scheduling
	PROPTEST_CASES=$(SCHEDULE_CASES) $(CARGO) test -p bitnet-inference --lib $(CARGO_FLAGS) engine::tests::scheduling
	BITNET_NIGHTLY=1 BITNET_ISA=scalar $(CARGO) test -p bitnet-inference --test golden $(CARGO_FLAGS)
	$(MAKE) test-scalar test-avx2 ISA_TESTS="--workspace --tests $(CARGO_FLAGS)"
	BITNET_NIGHTLY=1 $(PY) -m pytest --timeout=3600
	$(MAKE) test-torch
	$(MAKE) sanitize
	$(MAKE) metal-sanitize
	$(MAKE) instructions

# The sanitizer comes with the stable toolchain, the switch for it does not. Naming the target keeps it out of build
# scripts and macros, which rustc loads. The test left out is about sums, and takes minutes.
.PHONY: sanitize
sanitize: ## Unit tests of the crates with kernels under the address sanitizer (Linux)
ifeq ($(shell uname -s),Linux)
	CARGO_PROFILE_DEV_DEBUG=1 RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
		$(CARGO) test -p bitnet-core -p bitnet-quant --lib $(CARGO_FLAGS) \
		--target "$$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/sanitize -- --skip extremes_do_not_overflow
else
	@echo "skipped the address sanitizer: it is set up for Linux"
endif

# `make cross` runs the same checks without sanitizers.
CLANG ?= clang++-22
.PHONY: metal-sanitize
metal-sanitize: ## Metal kernels on the CPU under the address and undefined-behaviour sanitizers (needs clang 22)
	@if command -v $(CLANG) >/dev/null; then CLANG=$(CLANG) metal/host/check.sh --sanitize; \
	else echo "skipped the Metal kernels under sanitizers: there is no $(CLANG)"; fi

# Miri interprets: only small tests, and only plain Rust, since it knows no more of the CPU than the target's baseline.
.PHONY: miri
miri: ## Shared memory, layouts and portable kernels under Miri (needs a nightly toolchain with it)
	MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +$(MIRI_TOOLCHAIN) miri test -p bitnet-core --lib $(CARGO_FLAGS) \
		--target-dir target/miri -- buffer:: disjoint:: thread_pool::tests::a_panic \
		memory_pool::tests::resizing memory_pool::tests::threads memory_pool::tests::neighbours memory_pool::tests::listeners
	MIRIFLAGS=-Zmiri-disable-isolation BITNET_ISA=scalar PROPTEST_CASES=4 \
		$(CARGO) +$(MIRI_TOOLCHAIN) miri test -p bitnet-quant --lib $(CARGO_FLAGS) --target-dir target/miri \
		-- activation::tests::follows packing:: ternary:: kernel::tests::no_row kernel::tests::rows_of_zeros \
		kernel::tests::scaling kernel::tests::shapes

.PHONY: cross
cross: ## ARM kernels under emulation, Apple types, Metal kernels on the CPU (Debian on x86-64)
	tests/cross/run.sh

.PHONY: bench
bench: ## Kernel benchmarks; BENCH_ARGS go to criterion, after --
	$(CARGO) bench -p bitnet-benchmarks --bench ternary --bench quantize --bench memory $(CARGO_FLAGS) $(BENCH_ARGS)

.PHONY: instructions
instructions: ## Compare the kernels' instruction counts with the recorded ones (needs valgrind)
	$(PYTHON) benches/python/instructions.py $(BENCH_ARGS)

.PHONY: bench-compare
bench-compare: $(COMPARE_VENV)/.compare $(VENV)/.wheel-release ## This engine beside others from PyPI; BENCH_ARGS: a checkpoint folder, options (--help)
	$(COMPARE_PIP) install --force-reinstall --no-deps dist/*.whl
	PYTHONPATH=benches/python $(COMPARE_PY) -m compare $(BENCH_ARGS)

.PHONY: bench-train
bench-train: $(TORCH_VENV)/.torch $(VENV)/.wheel-release ## A training step beside PyTorch's: speed, FLOP utilisation, memory
	$(CARGO) build --release -p bitnet-benchmarks --example fma_peak $(CARGO_FLAGS)
	PYTHONPATH=benches/python $(TORCH_PY) -m torch_training speed --bitnet $(BITNET) \
		--fma-peak "$${CARGO_TARGET_DIR:-target}/release/examples/fma_peak$(EXE)" $(BENCH_ARGS)

.PHONY: train-curve
train-curve: $(TORCH_VENV)/.torch $(VENV)/.wheel-release ## Losses of training beside PyTorch's; BENCH_ARGS="--text FILE", options (--help)
	PYTHONPATH=benches/python $(TORCH_PY) -m torch_training curve --bitnet $(BITNET) --work target/train-curve $(BENCH_ARGS)
	$(CARGO) run --quiet -p bitnet-training --example compare_curves $(CARGO_FLAGS) -- docs/train-curve.svg \
		"The tiny preset on Tiny Shakespeare" bitnet-rust=target/train-curve/bitnet/metrics.jsonl \
		PyTorch=target/train-curve/pytorch/metrics.jsonl

.PHONY: lint
lint: lint-quick lint-stubs ## All linters

.PHONY: lint-quick
lint-quick: lint-ci lint-python lint-rust ## The linters that need no built wheel (the pre-commit hook)

.PHONY: lint-rust
lint-rust: $(VENV)/.base ## rustfmt, clippy and rustdoc; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps $(CARGO_FLAGS)

.PHONY: lint-python
lint-python: $(VENV)/.tools-dev ## ruff and mypy
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

.PHONY: lint-stubs
lint-stubs: $(VENV)/.wheel-dev $(VENV)/.tools-dev ## The type stub against the installed extension module
	$(PY) -m mypy.stubtest bitnet_rust --mypy-config-file pyproject.toml \
		--allowlist python/stubtest-allowlist.txt --ignore-unused-allowlist

.PHONY: lint-ci
lint-ci: $(VENV)/.tools-dev ## Workflows (actionlint, zizmor) and shell scripts (shellcheck)
	$(BIN)/actionlint$(EXE) -shellcheck $(BIN)/shellcheck$(EXE)
	$(BIN)/zizmor$(EXE) --offline --quiet .github
	$(BIN)/shellcheck$(EXE) .ci/run .githooks/pre-commit tests/cross/run.sh metal/host/*.sh tests/cross/apple_link.sh

.PHONY: deny
deny: ## Licences, advisories and sources of the dependencies (needs cargo-deny)
	$(CARGO) deny check

# --- Tending it -----------------------------------------------------------------------------------

.PHONY: fmt
fmt: $(VENV)/.tools-dev ## Format Rust and Python, and apply ruff's safe fixes
	$(CARGO) fmt --all
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

.PHONY: hooks
hooks: ## Run the linters before every commit
	git config core.hooksPath .githooks

.PHONY: clean
clean: ## Remove the venvs, wheels and caches (`cargo clean` removes target/)
	rm -rf $(VENV) $(COMPARE_VENV) $(TORCH_VENV) dist target/wheel-dev .mypy_cache .pytest_cache .ruff_cache .hypothesis

# --- The virtual environment ----------------------------------------------------------------------

$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed, not " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1,<27"
	@touch $@

$(VENV)/.tools-build: $(VENV)/.base pyproject.toml
	$(PIP) install --group build
	@touch $@

$(VENV)/.tools-dev: $(VENV)/.base pyproject.toml
	$(PIP) install --group dev
	@touch $@

$(COMPARE_VENV)/.compare: $(VENV)/.base pyproject.toml
	$(PYTHON) -m venv $(COMPARE_VENV)
	$(COMPARE_PIP) install --upgrade "pip>=25.1,<27"
	CMAKE_ARGS="-DGGML_NATIVE=ON" $(COMPARE_PIP) install --group compare
	@touch $@

$(TORCH_VENV)/.torch: $(VENV)/.base pyproject.toml
	$(PYTHON) -m venv $(TORCH_VENV)
	$(TORCH_PIP) install --upgrade "pip>=25.1,<27"
	$(TORCH_PIP) install --group test --group torch
	@touch $@

# One wheel is installed at a time: installing one makes the other's stamp void. A rebuilt wheel has
# the same version, so it is forced in; the second install adds what its metadata asks for.
install_wheel = rm -f $(VENV)/.wheel-* \
	&& $(PIP) install --force-reinstall --no-deps $(1)/*.whl \
	&& $(PIP) install $(1)/*.whl

$(VENV)/.wheel-dev: $(VENV)/.tools-build $(WHEEL_SOURCES)
	rm -rf target/wheel-dev
	$(PY) -m maturin build $(CARGO_FLAGS) --profile dev --compatibility off --interpreter $(PY) --out target/wheel-dev
	$(call install_wheel,target/wheel-dev)
	@touch $@

$(VENV)/.wheel-release: $(VENV)/.tools-build $(WHEEL_SOURCES)
	rm -f dist/*.whl
	$(PY) -m maturin build $(CARGO_FLAGS) --release --interpreter $(PY) --out dist
	$(call install_wheel,dist)
	@touch $@
