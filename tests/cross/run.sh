#!/usr/bin/env bash
# What this platform cannot run, checked from Debian on x86-64: the ARM kernels under emulation, on CPUs with and
# without the dot product; types and lints for Apple; Metal kernels on the CPU. The standard libraries for those targets come with Debian's own
# compiler, which is called by its path; rustup's stays untouched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

packages=(rustc-web cargo-web rust-web-src libstd-rust-web-dev rust-web-clippy
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static clang-22 libclang-rt-22-dev)
work=target/cross
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=0

# Every check enters itself here when it has passed.
all=("ARM max" "ARM neoverse-n1" "ARM cortex-a72" "Apple" "Apple link" "Metal" "Metal host")
passed=()

metal() {
    echo "== Metal kernels on the CPU"
    metal/host/check.sh
    passed+=("Metal")
    echo "== The host of the Metal kernels, on the same"
    mkdir -p "$work"
    metal/host/build.sh "$PWD/$work/metal.so"
    # By the toolchain of everything else.
    local test=(env -u RUSTC -u RUSTC_BOOTSTRAP BITNET_METAL_HARNESS="$PWD/$work/metal.so" "${CARGO:-cargo}" test --locked)
    "${test[@]}" -p bitnet-metal --features harness
    "${test[@]}" -p bitnet-inference --features metal-harness --test metal
    passed+=("Metal host")
}

if ! command -v apt-get >/dev/null || [ "$(uname -m)" != x86_64 ]; then
    echo "skipped ${all[*]:0:5}: they need Debian on x86-64" >&2
    if command -v "${CLANG:-clang++-22}" >/dev/null; then
        metal
    else
        echo "skipped ${all[*]:5}: they need clang 22; CLANG may name another" >&2
    fi
    exit 0
fi
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages; as root: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}"
fi
mkdir -p "$work"

# The standard library for ARM, unpacked beside the sources rather than installed.
arm_sysroot=$PWD/$work/arm-sysroot
if [ ! -d "$arm_sysroot/lib/rustlib/aarch64-unknown-linux-gnu" ]; then
    dpkg --add-architecture arm64
    apt-get update -qq
    (cd "$work" && apt-get download -qq libstd-rust-web-dev:arm64 && dpkg -x libstd-rust-web-dev_*_arm64.deb arm-package)
    mkdir -p "$arm_sysroot"
    cp -a "$work/arm-package/usr/lib" "$arm_sysroot/"
fi

# The standard library for Apple, built from Debian's copy of its source.
apple=aarch64-apple-darwin
apple_sysroot=$PWD/$work/apple-sysroot
if [ ! -d "$apple_sysroot/lib/rustlib/$apple" ]; then
    source=$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library
    crate=$(mktemp -d)
    mkdir "$crate/src" && touch "$crate/src/lib.rs"
    printf '[package]\nname = "empty"\nedition = "2021"\n[workspace]\n' >"$crate/Cargo.toml"
    (cd "$crate" && RUSTC_BOOTSTRAP=1 CARGO_HOME=$crate/home /usr/bin/cargo build --release --offline --target "$apple" \
        -Zbuild-std=std,panic_abort,test --config 'source.crates-io.replace-with="debian"' \
        --config "source.debian.directory=\"$source/vendor\"")
    libraries=$apple_sysroot/lib/rustlib/$apple/lib
    mkdir -p "$libraries"
    cp "$crate/target/$apple/release/deps/"lib*.r{lib,meta} "$libraries/"
    rm -f "$libraries"/libempty-*
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=--sysroot=$arm_sysroot
# Tests ARM on the emulated CPU $1, which must run the kernels of the instruction sets $2, and no others.
test_arm() {
    local cpu=$1 expected=$2 tested
    local -x CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $cpu -L /usr/aarch64-linux-gnu"
    local test=(/usr/bin/cargo test --target aarch64-unknown-linux-gnu --target-dir "$work/arm" --lib)
    echo "== ARM, emulated CPU $cpu"
    "${test[@]}" -p bitnet-core -p bitnet-quant
    tested=$("${test[@]}" --quiet -p bitnet-quant self_test -- --nocapture | sed -n 's/^tested \(.*\):.*/\1/p' | xargs)
    echo "instruction sets on $cpu: $tested"
    if [ "$tested" != "$expected" ]; then
        echo "expected: $expected" >&2
        exit 1
    fi
    passed+=("ARM $cpu")
}
test_arm max "scalar neon neon-dotprod neon-i8mm"
test_arm neoverse-n1 "scalar neon neon-dotprod"
test_arm cortex-a72 "scalar neon"

echo "== Apple, types and lints"
export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS=--sysroot=$apple_sysroot
PATH=/usr/bin:$PATH /usr/bin/cargo clippy --target "$apple" --target-dir "$work/apple" --no-default-features \
    -p bitnet-core -p bitnet-quant -p bitnet-metal -p bitnet-inference -- -D warnings
passed+=("Apple")
echo "== Apple, linked"
tests/cross/apple_link.sh "$apple_sysroot"
passed+=("Apple link")
metal

if [ "${passed[*]}" != "${all[*]}" ]; then
    echo "not all checks ran: ${passed[*]}" >&2
    exit 1
fi
echo "== cross checks passed: ${passed[*]}"
