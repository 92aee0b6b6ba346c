# Each target prepares what it needs: `make demo` or `make test` is all that a fresh machine with Python and make has to run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEMBERS := verifier signer bootloader-sim
# One more than the two processors of a small machine: many tests wait, for a board's boot, a slow line, a server.
WORKERS ?= 3
FUZZ := .cache/fuzz
FUZZ_SECONDS ?= 60
SMPMGR := .cache/smpmgr
MOTO := .cache/moto
PEERS := .cache/peers

.PHONY: help setup demo test test-fast deep system differential model lint format bench fuzz fuzz-replay mutation lock clean

help:
	@echo "make demo       the whole way on a virtual board: sign, push, patch, refuse, cut the power"
	@echo "make setup      the three commands, in .venv"
	@echo "make test       lint, types and all tests"
	@echo "make test-fast  the inner loop"
	@echo "make deep       replicas killed at every step, and the API under many examples (half an hour)"
	@echo "make bench      bytes on the wire, time and memory, against python-tuf; the service against the bare core; power cuts; the serial link against smpmgr; patches of real firmware"
	@echo "make fuzz       every parser and the whole session under atheris [FUZZ_SECONDS=60 each] [FUZZ_TARGET=name]"
	@echo "make differential  the verifier beside python-tuf on generated repositories [CASES=100000] [SEED=1] [CASE=n, one again]"
	@echo "make model      search the model of the rules of trust whole, and drive the real code deep by it (half an hour)"
	@echo "make mutation   small faults in the trust rules, each of which a test has to notice (about an hour)"
	@echo "make lint | format | lock | clean"

setup: $(VENV)/.ready

# Compiled, since commands start hundreds of times, and an environment may forbid them to write what they compile.
# Debian's Python comes without venv and pip; elsewhere they are part of Python.
$(VENV)/.ready: requirements.lock $(MEMBERS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or later is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { apt-get update -q && apt-get install -q -y python3-venv; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(MEMBERS:%=-e ./%)
	@$(BIN)/python -m compileall -q $(MEMBERS:%=%/src) tests/support
	@touch $@

demo: setup
	$(BIN)/hillhold-lab demo

test: lint system
	$(BIN)/pytest -n $(WORKERS) -m "not deep"

test-fast: setup
	$(BIN)/pytest -n $(WORKERS) -m "not slow and not system and not deep"

deep: setup system
	$(BIN)/pytest -n $(WORKERS) -m deep

# What tests run of the operating system: U-Boot's environment tool, a PKCS#11 token made of software, and a browser; and smpmgr and moto.
system: $(SMPMGR)/.ready $(MOTO)/.ready
	@command -v git >/dev/null && command -v fw_setenv >/dev/null && command -v softhsm2-util >/dev/null \
	    && command -v chromium >/dev/null \
	    || { apt-get update -q && apt-get install -q -y git libubootenv-tool softhsm2 chromium; }

# smpmgr lies beside the project's packages: it brings a Bluetooth stack and firmware, which nobody else has to install.
$(SMPMGR)/.ready: tests/interop/requirements-smpmgr.txt $(VENV)/.ready
	rm -rf $(SMPMGR)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target $(SMPMGR) -r tests/interop/requirements-smpmgr.txt
	@touch $@

# moto brings the AWS SDK, which commands load where it is there: they would start later here than at their users'.
$(MOTO)/.ready: tests/service/requirements-moto.txt $(VENV)/.ready
	rm -rf $(MOTO)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target $(MOTO) -r tests/service/requirements-moto.txt
	@touch $@

CASES ?= 100000
SEED ?= 1
differential: setup
	PYTHONPATH=tests/support $(BIN)/python -m differ.runner --seed $(SEED) $(if $(CASE),--case $(CASE),--cases $(CASES))

model: setup
	PYTHONPATH=tests/model:tests/support $(BIN)/python -m trustmodel

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(PEERS)/.ready $(SMPMGR)/.ready $(MOTO)/.ready
	for name in wire_bytes publish verify_cpu content_stream whole_process log service service_load powercut serial_line patch_line; do PYTHONPATH=tests/support $(BIN)/python tests/bench/$$name.py || exit 1; echo; done
	PYTHONPATH=tests/support $(BIN)/python tests/bench/patch_bases.py --bases 200
	@echo
	PYTHONPATH=tests/support:$(PEERS) $(BIN)/python tests/bench/patches.py

# Other tools that make patches. Real firmware to make them from is fetched by the benchmark itself, into .cache/firmware.
$(PEERS)/.ready: tests/bench/requirements-peers.txt $(VENV)/.ready
	rm -rf $(PEERS)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target $(PEERS) -r tests/bench/requirements-peers.txt
	@command -v xdelta3 >/dev/null || { apt-get update -q && apt-get install -q -y xdelta3; }
	@touch $@

# atheris lies beside the project's packages, not among them: everything else does without it.
$(FUZZ)/.ready: tests/fuzz/requirements-fuzz.txt $(VENV)/.ready
	rm -rf $(FUZZ)/atheris
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target $(FUZZ)/atheris -r tests/fuzz/requirements-fuzz.txt
	@touch $@

fuzz: $(FUZZ)/.ready
	PYTHONPATH=$(FUZZ)/atheris $(BIN)/python tests/fuzz/fuzz_run.py --seconds $(FUZZ_SECONDS) $(FUZZ_TARGET)

fuzz-replay: setup
	$(BIN)/python tests/fuzz/fuzz_run.py --replay $(FUZZ_TARGET) $(INPUT)

# Another order of time than the tests: `$(BIN)/python tests/mutation/run.py trust` tries one module.
mutation: setup
	nice -n 10 $(BIN)/python tests/mutation/run.py --jobs $(WORKERS)

# `uv` resolves for every platform at once; pip installs what it wrote.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	    --no-header --no-annotate .requirements.in -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	    --no-header --no-annotate tests/interop/requirements-smpmgr.in -o tests/interop/requirements-smpmgr.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	    --no-header --no-annotate tests/service/requirements-moto.in -o tests/service/requirements-moto.txt
	{ echo '# What `make bench` measures patches against, beside requirements.lock; xdelta3 is the operating system'"'"'s.'; \
	    printf '%s\n' bsdiff4 detools hdiffpatch zstandard | uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --no-header --no-annotate -; } > tests/bench/requirements-peers.txt

clean:
	rm -rf $(VENV) .cache
