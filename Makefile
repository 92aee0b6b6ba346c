# Each target prepares what it needs: `make demo` or `make test` is all that a fresh machine with Python and make has to run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEMBERS := verifier signer bootloader-sim
WORKERS ?= 2

.PHONY: help setup demo test test-fast model lint format bench lock clean

help:
	@echo "make demo       the whole way on a virtual board: sign, push, patch, refuse, cut the power"
	@echo "make setup      the three commands, in .venv"
	@echo "make test       lint, types and all tests"
	@echo "make test-fast  the inner loop"
	@echo "make model      search the model of the rules of trust whole, and drive the real code deep by it (half an hour)"
	@echo "make bench      bytes on the wire, against python-tuf"
	@echo "make lint | format | lock | clean"

setup: $(VENV)/.ready

# Debian's Python comes without venv and pip; elsewhere they are part of Python.
$(VENV)/.ready: requirements.lock $(MEMBERS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or later is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { apt-get update -q && apt-get install -q -y python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(MEMBERS:%=-e ./%)
	@touch $@

demo: setup
	$(BIN)/hillhold-lab demo

test: lint
	$(BIN)/pytest -n $(WORKERS)

test-fast: setup
	$(BIN)/pytest -n $(WORKERS) -m "not slow"

model: setup
	PYTHONPATH=tests/model:tests/support $(BIN)/python -m trustmodel

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python tests/bench/wire_bytes.py

# `uv` resolves for every platform at once; pip installs what it wrote.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	    --no-header --no-annotate .requirements.in -o requirements.lock

clean:
	rm -rf $(VENV) .cache
