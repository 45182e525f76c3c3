#!/bin/sh
# Make an environment for peers: benchmarks/peers.sh VENV REQUIREMENTS
#
# PYTHON  the interpreter to use; default: python3
# TORCH   pip's requirement for torch, installed first; default: the requirements' version, whatever build pip takes
set -eu

venv=$1
requirements=$2

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
torch=${TORCH:-$(grep '^torch==' "$requirements")}
echo "Installing $torch into $venv"
pip install --quiet "$torch"
echo "Installing $requirements"
pip install --quiet --requirement "$requirements"
