#!/bin/sh
# Make a virtual environment and install Grand Rounds into it with the tested versions of constraints.txt.
#
#   scripts/install.sh VENV [EXTRA]        EXTRA: dev, for tests and linters
#
# PYTHON  the interpreter to use; default: the newest of 3.13, 3.12 and 3.11 that is found
# TORCH   pip's requirement for torch; default: constraints.txt's version, its CPU build where there is no NVIDIA GPU
set -eu

venv=$1
extra=${2:-}
cd "$(dirname "$0")/.."

usable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; }

find_python() {
    # A name on the path may be a shim for a version that is not installed: only running it tells.
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Grand Rounds needs Python 3.11, 3.12 or 3.13; found none${PYTHON:+ at $PYTHON}." >&2
    echo "Install one, or say where it is: make PYTHON=/path/to/python3.12 demo" >&2
    exit 1
}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

offered() { pip install --quiet --dry-run --no-deps "$1" >/dev/null 2>&1; }

torch_requirement() {
    version=$(grep '^torch==' constraints.txt)
    if has_gpu; then
        # Where pip is offered both builds, it would take "+cpu" for the newer version.
        echo "$version,!=${version#torch==}+cpu"
    elif offered "$version+cpu"; then
        echo "$version+cpu"
    else
        if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
            echo "pip is offered no CPU build of torch; the general build brings CUDA along, several GB that a" >&2
            echo "machine without a GPU does not need. README.md, \"Installing\", says how to avoid that." >&2
        fi
        echo "$version"
    fi
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        echo "This Python cannot make virtual environments: its venv or ensurepip module is missing." >&2
        echo "On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "Making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# torch comes first and by itself: which build is taken is decided here, and TORCH may name another version than
# the tested one, so the constraints are used without it.
constraints=$venv/constraints.txt
grep -v '^torch==' constraints.txt >"$constraints"
torch=${TORCH:-$(torch_requirement)}
echo "Installing $torch"
pip install --constraint "$constraints" "$torch"
echo "Installing grandrounds and what it needs"
pip install --quiet --constraint "$constraints" --editable ".${extra:+[$extra]}"
