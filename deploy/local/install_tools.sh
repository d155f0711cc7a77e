#!/bin/sh
# Makes sure that programs are on PATH: each argument is a Debian package and the program of the same name.
# Root gets them installed where they are missing; anybody else one line that says what to install.
set -eu
missing=
for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tools: missing:$missing; run: apt-get install$missing" >&2
    exit 1
fi
echo "tools: installing$missing"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/dev/null </dev/null || {
    echo "tools: could not install$missing with apt-get" >&2
    exit 1
}
