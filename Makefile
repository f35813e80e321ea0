# Every target makes what it needs: `make demo` and `make test` work from a fresh clone.
# PYTHON names the interpreter that the environment in .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
SOURCES := plugin training eval tests examples

.PHONY: demo run test fix lint types check bench bench-encoder bench-decisions bench-peers \
        conformance conformance-compare faults fuzz chaos soak \
        side-channels lock clean

demo: $(VENV)/.proxy  ## ask a real proxy six questions and print what answered
	$(BIN)/python examples/demo.py

PORT ?= 4000
run: $(VENV)/.proxy  ## keep the proxy in the foreground, on port 4000 or PORT
	$(BIN)/python examples/demo.py --serve --port $(PORT)

test: check  ## lint, types and all tests, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

fix: $(VENV)/.dev  ## format, and mend what the linter can
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types

bench: $(VENV)/.proxy  ## latency beside LiteLLM without nearhit, in one run
	$(BIN)/python examples/load.py

bench-encoder: $(VENV)/.dev  ## speed, memory and start beside sentence-transformers, in one run
	$(BIN)/python eval/nearhit_eval/encoder_bench.py --out encoder_bench.json

SETS ?= tests/data/decisions/everyday.json
bench-decisions: $(VENV)/.dev  ## what is served and wrong on SETS, and what each stage adds
	$(BIN)/nearhit-eval decisions $(SETS) --ablate

conformance: $(VENV)/.dev  ## what a gateway's cache must and must not do, asked of nearhit
	$(BIN)/python -m pytest tests/conformance -m 'conformance_full or not conformance_full'

conformance-compare: $(VENV)/.dev  ## the same of LiteLLM without a cache and with its own two
	$(BIN)/python tests/conformance/compare.py

bench-peers: $(VENV)/.dev  ## latency beside LiteLLM's own cache and GPTCache, growth of the store
	$(BIN)/nearhit-eval bench --json bench_peers.json

# OPTIONS="--minutes 2" and the like; each says what it takes with --help.
faults: $(VENV)/.dev  ## break store, disk, clock and files under a proxy that is being asked
	$(BIN)/python tests/robustness/faults.py $(OPTIONS)

fuzz: $(VENV)/.dev  ## hostile requests, in process and through a proxy beside LiteLLM alone: 10 minutes
	$(BIN)/python tests/robustness/slow.py
	$(BIN)/python tests/robustness/fuzz.py $(OPTIONS)

chaos: $(VENV)/.dev  ## kill proxy and store process 200 times under load
	$(BIN)/python tests/robustness/chaos.py $(OPTIONS)

soak: $(VENV)/.dev  ## load beside LiteLLM alone, memory and event loop: 30 minutes
	$(BIN)/python tests/robustness/soak.py $(OPTIONS)

side-channels: $(VENV)/.dev  ## what the time of an answer tells; how many questions one entry reaches
	$(BIN)/python tests/robustness/timing.py
	$(BIN)/python tests/robustness/hubs.py
	$(BIN)/python tests/robustness/hubs.py --cosine 0.3 --bound 10

lock: $(VENV)/.dev  ## write the versions that are installed now into requirements.lock
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.proxy: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) --editable '.[proxy]'
	touch $@

# torch, for comparison only, comes first: a looser requirement would pull gigabytes of CUDA.
$(VENV)/.dev: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) "$$(grep '^torch==' requirements.lock)"
	$(PIP) --editable '.[dev,training]'
	touch $@ $(VENV)/.proxy
