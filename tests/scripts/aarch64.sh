#!/bin/sh
# The tests of codes, quant, prune and the golden files of the container on aarch64, from an
# x86-64 machine: emulated by QEMU, so that the plain bodies run as NEON code.
#
#   tests/scripts/aarch64.sh
#
# Needs Debian's second Rust with its arm64 library, a cross compiler and QEMU:
#   apt-get install --no-install-recommends rustc-web cargo-web gcc-aarch64-linux-gnu \
#     libc6-dev-arm64-cross qemu-user
#   dpkg --add-architecture arm64 && apt-get update
#   apt-get download libstd-rust-web-dev:arm64, unpacked over /
set -eu
cd "$(dirname "$0")/../.."
target=aarch64-unknown-linux-gnu
if [ ! -d /usr/lib/rustlib/$target ] || ! command -v qemu-aarch64 >/dev/null; then
    echo "aarch64: skipped, the packages named in this script are not there"
    exit 0
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/aarch64" CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
export PATH=/usr/bin:/bin RUSTC=/usr/bin/rustc
cargo test --target $target -p niwaki-codes -p niwaki-quant -p niwaki-prune --lib
cargo test --target $target -p niwaki-container --test suite golden
