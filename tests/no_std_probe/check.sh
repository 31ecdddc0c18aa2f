#!/bin/sh
# Builds the decode path of niwaki-codes, and niwaki-micro with device images, as a C library without std and looks inside.
#
#   tests/no_std_probe/check.sh
#
# Fails if std got linked, if a panic path survived, or if the library decodes wrong.
# Then plants both faults, and fails if it does not catch them.
# Needs cargo (stable), a C compiler and nm.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}
library=$target/release/libniwaki_no_std_probe.a
symbol=niwaki_panic_path_survived

build() {
    rm -f "$library"
    cargo build --quiet --release --locked "$@"
}

# Whether the handler, and so a panic path, is still there.
panics() {
    nm "$library" 2>/dev/null | grep -q "$symbol"
}

fail() {
    echo "no_std probe: $1" >&2
    exit 1
}

build || fail "the library does not build without std"
for function in niwaki_decode niwaki_device; do
    nm "$library" 2>/dev/null | grep -q " T $function\$" || fail "the library lacks $function"
done
panics && fail "a panic path survived"
${CC:-cc} -std=c99 -Wall -Wextra -Werror -O1 run.c "$library" -o "$target/no_std_probe"
"$target/no_std_probe" || fail "the library decodes wrong"

build --features planted-panic || fail "the planted panic does not build"
panics || fail "the planted panic was not seen"
refusal=$(build --features planted-std 2>&1) && fail "the planted std was not seen"
echo "$refusal" | grep -q 'duplicate lang item.*panic_impl' || fail "std is refused for another reason: $refusal"
echo "no_std probe: no std, no panic path, right floats; both planted faults were caught"
