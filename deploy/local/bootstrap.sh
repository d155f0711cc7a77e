#!/bin/sh
# Makes .venv with the locked requirements of one file ($1: base, local, dev, bench) and this package on top.
# Safe to repeat. Every failure ends in one line that says what to do.
set -eu
cd "$(dirname "$0")/../.."
which_set=${1:-dev}
python=${PYTHON:-python3}

fail() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "python3 is missing; install Python 3.11 or newer"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$("$python" -V) is too old; Python 3.11 or newer is needed"

if [ ! -x .venv/bin/pip ]; then
    rm -rf .venv
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian splits venv off; root can mend that here.
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || fail "Python's venv module is missing; run: apt-get install python3-venv"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv ca-certificates; } >/dev/null \
            || fail "could not install python3-venv with apt-get"
    fi
    "$python" -m venv .venv || fail "could not make .venv with $python"
fi

# uv installs in a tenth of pip's time; where it can't be had, pip does the same from the same hashes.
if ! .venv/bin/python -m uv --version >/dev/null 2>&1; then
    .venv/bin/pip install -q --disable-pip-version-check uv==0.13.8 2>/dev/null || echo "setup: no uv, using pip" >&2
fi
if .venv/bin/python -m uv --version >/dev/null 2>&1; then
    # The machine's own certificates, so that a mirror behind a private CA works.
    export UV_SYSTEM_CERTS=1 VIRTUAL_ENV="$PWD/.venv"
    install="./.venv/bin/python -m uv pip install -q"
else
    install="./.venv/bin/pip install -q --disable-pip-version-check"
fi
$install --require-hashes -r "requirements/$which_set.txt" || fail "could not install requirements/$which_set.txt"
if [ "$which_set" = local ] || [ "$which_set" = base ]; then
    $install hatchling==1.28.0 grpcio-tools==1.85.1 mypy-protobuf==5.1.0 || fail "could not install the build tools"
fi
$install --no-deps --no-build-isolation -e . || fail "could not build the package"
