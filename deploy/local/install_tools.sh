#!/bin/sh
# Makes sure that programs are there: each argument is a program, or program:package where the names differ. A path
# may stand for it, with a wildcard for the folder of a library, which is named after the architecture.
# Root gets Debian's packages of what is missing; anybody else one line that says what to install.
set -eu

is_there() {
    case $1 in
    /*) ls $1 ;;
    *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

missing=
for tool in "$@"; do
    is_there "${tool%%:*}" || missing="$missing ${tool##*:}"
done
[ -z "$missing" ] && exit 0

fail() { echo "tools: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || fail "missing:$missing; run: apt-get install$missing"
echo "tools: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# apt-get talks a lot; only what it says last when it fails is of use.
said=$({ apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } 2>&1 </dev/null) \
    || fail "apt-get could not install$missing: $(printf '%s' "$said" | tail -n 1)"
