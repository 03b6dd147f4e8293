#!/usr/bin/env bash
# apple_link.sh SYSROOT: links the host of the Metal kernels and its tests for Apple silicon, with zig and stubs of Apple's frameworks.
# The stubs hold the symbols that there are on macOS and that this project needs: any other symbol fails the link. RUSTC
# names the compiler that the standard library in SYSROOT was built with.
set -euo pipefail
sysroot=$1
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=aarch64-apple-darwin
work=$PWD/target/cross/link
venv=$work/venv
mkdir -p "$work"
if [ ! -x "$venv/bin/cargo-zigbuild" ]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check --quiet install 'ziglang==0.17.1' 'cargo-zigbuild==0.24.1'
fi

# A text-based stub: what a library exports, by its place on macOS.
stub() { # FILE INSTALL-NAME SYMBOL ...
    mkdir -p "$(dirname "$1")"
    {
        printf -- '--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\n'
        printf "install-name: '%s'\nexports:\n  - targets: [ arm64-macos ]\n    symbols: [ " "$2"
        printf '%s, ' "${@:3}" | sed 's/, $//'
        printf ' ]\n...\n'
    } >"$1"
}
framework() { # NAME SYMBOL ...
    stub "$work/frameworks/$1.framework/$1.tbd" "/System/Library/Frameworks/$1.framework/Versions/A/$1" "${@:2}"
}
framework Metal _MTLCreateSystemDefaultDevice _MTLCopyAllDevices _MTLCommandBufferErrorDomain
framework Foundation _NSCocoaErrorDomain
framework CoreFoundation _CFRelease
framework CoreGraphics _CGMainDisplayID
stub "$work/lib/libobjc.tbd" /usr/lib/libobjc.A.dylib _objc_msgSend _objc_retain _objc_release _objc_autorelease \
    _objc_autoreleasePoolPush _objc_autoreleasePoolPop _objc_getClass _objc_lookUpClass _objc_getProtocol _sel_registerName \
    _objc_retainAutoreleasedReturnValue _objc_retainAutoreleaseReturnValue _objc_autoreleaseReturnValue _objc_alloc _objc_opt_class \
    _object_getClass _class_getName _class_getSuperclass _class_getInstanceMethod _class_isMetaClass \
    _method_getName _method_getTypeEncoding _sel_getName _sel_isEqual _objc_exception_throw

# Linked anew, so that there is one.
deps=$work/target/$target/debug/deps
rm -f "$deps"/bitnet_metal-*
flags="--sysroot=$sysroot -Clink-arg=-F$work/frameworks -Clink-arg=-L$work/lib"
# What is linked need not be fast, and Debian has no tool of Rust that strips it.
PATH=$venv/bin:/usr/bin:$PATH CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_STRIP=none \
    CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS=$flags \
    "$venv/bin/cargo-zigbuild" zigbuild --locked --target "$target" --target-dir "$work/target" \
    -p bitnet-metal --lib --tests
linked=$(find "$deps" -name 'bitnet_metal-*' ! -name '*.*' -type f)
# A Mach-O file for 64-bit ARM.
[ "$(od -An -tx4 -N8 "$linked" | tr -d ' ')" = feedfacf0100000c ]
