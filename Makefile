# Each target is complete by itself: Python 3.11 or newer, git and make are all it needs.
#
#   PYTHON     the interpreter that .venv is made with
#   TORCH      the torch to install
#   RABBITMQ_4 the folder for RabbitMQ 4
#   SOAK       options of the soak
#   PIP_FLAGS  added to each `pip install`. PyPI's torch for Linux is a CUDA build of gigabytes;
#              without a GPU --extra-index-url https://download.pytorch.org/whl/cpu is lighter

PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_FLAGS ?=
RABBITMQ_4 ?= $(HOME)/.cache/text2image-node/rabbitmq-4
SOAK ?= --jobs 500 --nodes 3 --seed 1

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := .venv/.installed
WITH_BROKER := $(PYTHON) -m deploy.local_broker run --
QUIET := TRANSFORMERS_VERBOSITY=error DIFFUSERS_VERBOSITY=error

OPEA_INSTALLED := .venv-opea/.installed
# With a Makefile target, and needs, of their own.
ELSEWHERE := tests/opea tests/compose
LONG_FAULTS := $(filter-out %test_harness.py %test_nodes.py %test_unfit.py %test_chain_deaths.py,$(wildcard tests/faults/test_*.py))

.DEFAULT_GOAL := help
.PHONY: help demo demo-megaservice test test-faults test-rabbitmq-4 test-opea test-compose soak check bench install format clean train-demo-models eval-demo-models

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)  ## run the whole story on this machine: broker, nodes, requests, images
	@$(WITH_BROKER) $(BIN)/python -m deploy.demo

demo-megaservice: $(INSTALLED)  ## chain four services: guardrail, prompt-writer, text2image, captioner
	@$(WITH_BROKER) $(BIN)/python -m deploy.demo_megaservice

test: $(INSTALLED)  ## run the tests, those against a real broker included; the longest are in test-faults
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(foreach path,$(LONG_FAULTS) $(ELSEWHERE),--ignore $(path))

test-faults: $(INSTALLED)  ## the fault suite alone: nodes, brokers, clusters and links that die
	@$(BIN)/python -m tests.faults.run

test-rabbitmq-4: $(INSTALLED)  ## everything that speaks to a broker, on RabbitMQ 4 (root; Debian, Ubuntu)
	@$(PYTHON) -m deploy.rabbitmq4 install $(RABBITMQ_4)
	@env -u NODE_AMQP_URL -u NODE_TEST_AMQP_URL TEXT2IMAGE_RABBITMQ_ROOT=$(RABBITMQ_4) $(BIN)/python -m pytest \
		tests/suites tests/integration/test_amqp.py tests/integration/test_discovery_permissions.py \
		tests/integration/test_discovery_outages.py tests/e2e
	@env -u NODE_AMQP_URL -u NODE_TEST_AMQP_URL TEXT2IMAGE_RABBITMQ_ROOT=$(RABBITMQ_4) $(BIN)/python -m tests.faults.run

test-opea: $(INSTALLED) $(OPEA_INSTALLED)  ## an unmodified opea-comps runs its graphs through the gateway
	@$(BIN)/python -m pytest tests/opea

test-compose: $(INSTALLED)  ## docker-compose.yml as it is: answers, a node killed, three of them (Docker, Compose v2)
	@$(BIN)/python -m pytest tests/compose -v --no-header --durations=6

soak: $(INSTALLED)  ## 500 jobs, 200 chains, faults drawn from a seed; then properties and bad links for long
	@$(BIN)/python -m tests.faults.soak $(SOAK)
	@$(BIN)/python -m tests.faults.soak_chains --chains 200 --seed 1
	@JOB_LIFE_EXAMPLES=8000 JOB_LIFE_LENGTH=5 CHAIN_LIFE_EXAMPLES=4000 $(BIN)/python -m pytest tests/properties
	@$(BIN)/python -m pytest tests/faults/soak_links.py

check: $(INSTALLED)  ## format, lint, types, imports and unit tests
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest -n 2 tests/unit

bench: $(INSTALLED)  ## measure throughput and latency
	@$(WITH_BROKER) $(BIN)/python -m benchmarks
	@$(WITH_BROKER) $(BIN)/python -m benchmarks.chains
	@$(WITH_BROKER) $(BIN)/python -m benchmarks.gateway

train-demo-models: $(INSTALLED)  ## train the shipped models from scratch (2 hours on 2 cores, resumes)
	@$(QUIET) $(BIN)/python -m training

eval-demo-models: $(INSTALLED)  ## judge the shipped models, into training/reports (4 minutes)
	@$(QUIET) $(BIN)/python -m training.evaluate

install: $(INSTALLED)  ## create .venv with everything in it
	@:

format: $(INSTALLED)  ## format the code and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## remove .venv and all that was built
	@rm -rf .venv .venv-opea build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "error: Python lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv; takes a few minutes the first time"
	@$(PYTHON) -m venv .venv
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt '$(TORCH)'
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[inference,gateway,test,dev]'
	@touch $@

$(OPEA_INSTALLED): tests/opea/requirements.txt
	@echo "installing opea-comps into .venv-opea; takes a minute the first time"
	@$(PYTHON) -m venv .venv-opea
	@.venv-opea/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_FLAGS) -r tests/opea/requirements.txt
	@touch $@
