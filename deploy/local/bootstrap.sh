#!/bin/sh
# Makes .venv with the locked requirements of one file ($1: base, local, dev, bench) and this package on top. Safe to
# repeat; a failure is one line that says what to do. INSTALLER=pip does without uv.
# $1 = transcribe adds the engine of transcripts, once. It has 600 MB, so RUN_TRANSCRIPTS=0 and another
# TRANSCRIBE_ENGINE leave it out; where it can't be had everything else goes on.
set -eu
cd "$(dirname "$0")/../.."
which_set=${1:-dev}

if [ "$which_set" = transcribe ]; then
    [ "${RUN_TRANSCRIPTS:-1}" != 0 ] && [ "${TRANSCRIBE_ENGINE:-faster-whisper}" = faster-whisper ] || exit 0
    # An environment for developing has it.
    if [ -e .venv/.dev ]; then exit 0; fi
    if [ -e .venv/.transcribe ] && [ ! requirements/transcribe.txt -nt .venv/.transcribe ]; then exit 0; fi
fi

fail() { echo "setup: $*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || fail "$(uname -s) will not do, Linux is needed; a virtual machine is one"
# The embedded servers have wheels for these alone.
fits() {
    "$1" -c '
import sys, sysconfig
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) or "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")))
' 2>/dev/null
}
kind_of() {
    "$1" -c '
import sys, sysconfig
print(sys.version.split()[0], "for", sysconfig.get_config_var("HOST_GNU_TYPE"))
' 2>/dev/null || echo missing
}
# Two at a time would remove each other's unfinished environment. 1 says that another one holds the lock; any other
# status, that there are no locks here.
exec 9<.
flock -n 9 2>/dev/null || [ $? != 1 ] || { echo "setup: waiting for another one of this folder"; flock 9; }

has_ensurepip() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

if ! .venv/bin/python -I deploy/local/is_set_up.py >/dev/null 2>&1; then
    # Whole: its scripts, too, name the folder and the Python that it was made for.
    if [ -e .venv ]; then echo "setup: .venv is unfinished, of another folder or of another Python; making it anew"; fi
    said=$(rm -rf .venv 2>&1) || fail "could not remove .venv: $(printf '%s' "$said" | head -n 1)"
    # PYTHON is taken at its word; without it the first that will do.
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
    for python in "$@"; do if fits "$python"; then break; fi; done
    fits "$python" || fail "Python 3.11, 3.12 or 3.13 on glibc is needed, and $1 is $(kind_of "$1"); install one and name it: make run PYTHON=python3.13"
    if ! has_ensurepip && command -v uv >/dev/null 2>&1; then
        uv venv -q --seed --python "$python" .venv || fail "could not make .venv with uv"
    else
        # Debian splits this part of Python off.
        has_ensurepip || deploy/local/install_tools.sh ensurepip:python3-venv
        "$python" -m venv .venv || fail "could not make .venv with $python"
    fi
    echo "setup: installing what requirements/$which_set.txt names, once"
fi

# Into .venv, whatever the shell's UV_SYSTEM_PYTHON, UV_PYTHON or a pip.conf with `user = true` say.
export PIP_USER=0
pip="./.venv/bin/python -m pip install -q --disable-pip-version-check"
if [ "${INSTALLER:-uv}" = uv ] && ! .venv/bin/python -m uv --version >/dev/null 2>&1; then
    $pip --require-hashes -r requirements/installer.txt 2>/dev/null || echo "setup: no uv for this machine, using pip" >&2
fi
if [ "${INSTALLER:-uv}" = uv ] && .venv/bin/python -m uv --version >/dev/null 2>&1; then
    # The machine's own certificates, so that a mirror behind a private CA works.
    export UV_SYSTEM_CERTS=1
    install="./.venv/bin/python -m uv pip install -q --python .venv/bin/python"
else
    install=$pip
fi

if [ "$which_set" = transcribe ]; then
    echo "setup: adding the engine of transcripts, once; RUN_TRANSCRIPTS=0 does without"
    if said=$($install --require-hashes -r requirements/transcribe.txt 2>&1); then
        touch .venv/.transcribe
    else
        echo "setup: no transcripts, their engine could not be installed: $(printf '%s' "$said" | tail -n 1)" >&2
    fi
    exit 0
fi

# The tools that make the stubs come with dev.txt; elsewhere they are a file of their own.
case $which_set in
    dev | bench) files="-r requirements/$which_set.txt" ;;
    *) files="-r requirements/$which_set.txt -r requirements/build.txt" ;;
esac
$install --require-hashes $files || fail "could not install requirements/$which_set.txt"
$install --no-deps --no-build-isolation -e . || fail "could not build the package"
