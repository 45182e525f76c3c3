#!/bin/sh
# Make an environment for peers: benchmarks/peers.sh VENV REQUIREMENTS [PACKAGE…]
#
# Each PACKAGE is installed last, without its dependencies.
#
# PYTHON  the interpreter to use; default: python3
# TORCH   pip's requirement for torch, installed first; default: that of the requirements, in the build that pip takes
set -eu

venv=$1
requirements=$2
shift 2

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
torch=${TORCH:-$(grep '^torch==' "$requirements")}
echo "Installing $torch into $venv"
pip install --quiet "$torch"
echo "Installing what $requirements names"
pip install --quiet --requirement "$requirements"
[ $# -eq 0 ] || pip install --quiet --no-deps "$@"
