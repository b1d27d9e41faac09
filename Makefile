# Each target is complete by itself: Python 3.11 or newer, git and make are all it needs.
#
#   PYTHON     the interpreter that .venv is made with
#   TORCH      the torch to install
#   PIP_FLAGS  added to each `pip install`. PyPI's torch for Linux is a CUDA build of gigabytes;
#              without a GPU --extra-index-url https://download.pytorch.org/whl/cpu is lighter

PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_FLAGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := .venv/.installed
WITH_BROKER := $(PYTHON) -m deploy.local_broker run --

.DEFAULT_GOAL := help
.PHONY: help demo test check bench install format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)  ## run the whole story on this machine: broker, nodes, requests, images
	@$(WITH_BROKER) $(BIN)/python -m deploy.demo

test: $(INSTALLED)  ## run all tests, those against a real broker included
	@$(BIN)/python -m pytest

check: $(INSTALLED)  ## format, lint, types, imports and unit tests
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest tests/unit

bench: $(INSTALLED)  ## measure throughput and latency
	@$(WITH_BROKER) $(BIN)/python -m benchmarks

install: $(INSTALLED)  ## create .venv with everything in it
	@:

format: $(INSTALLED)  ## format the code and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## remove .venv and all that was built
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "error: Python lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv; takes a few minutes the first time"
	@$(PYTHON) -m venv .venv
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt '$(TORCH)'
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[inference,test,dev]'
	@touch $@
