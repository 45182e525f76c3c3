# Everything runs in a virtual environment that is made on first use; nothing but Python 3.11 to 3.13 is needed.
#   make demo PYTHON=/path/to/python3.12     another interpreter
#   make demo TORCH=torch==2.13.0            another build or version of torch (see README.md, "Installing")

VENV ?= .venv
DEMO ?= runs/demo
# Test processes; each computes in one thread.
WORKERS ?= 2
export PYTHON TORCH

.DELETE_ON_ERROR:
.PHONY: help demo test lint lint-rules lint-format lint-types format install clean

help:
	@echo "make demo      train a regular and a reasoning model on the embedded clinic, and compare them"
	@echo "make test      run the tests"
	@echo "make lint      check style and types"
	@echo "make format    put the source into shape"
	@echo "make install   only make the virtual environment, $(VENV)"
	@echo "make clean     remove the virtual environment and caches; runs/ is kept"

demo: $(VENV)/installed
	$(VENV)/bin/grandrounds demo --out "$(DEMO)"

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n $(WORKERS) $(TESTS)

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

clean:
	rm -rf "$(VENV)" .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
