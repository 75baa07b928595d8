# `make demo` and `make test` start from nothing but Python, a C++ compiler and make.

PYTHON ?= python3
VENV ?= .venv
# Test processes; each computes on one thread, so that they do not fight for cores.
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PINS := constraints.txt
TORCH := $(shell grep '^torch==' $(PINS))
DEMO_ARGS ?= --epochs 3 --out runs/demo --overwrite
BENCH_ARGS ?= --all

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types docs bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-8s %s\n", $$1, $$2 }'

demo: $(VENV)/.run ## Train a TGN on a synthetic stream, checkpoints and metrics in runs/demo
	$(BIN)/mspipe train synthetic $(DEMO_ARGS)
	@echo "next: $(BIN)/mspipe evaluate runs/demo, or $(BIN)/mspipe train --help"

test: lint types $(VENV)/.scatter ## Lint, check types and run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal

lint: $(VENV)/.dev ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## Mend style and formatting in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## Check types
	$(BIN)/mypy

docs: $(VENV)/.docs ## Build the pages into docs/_build/html and run the examples in them; any warning is an error
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W -q -b doctest docs docs/_build/doctest

bench: $(VENV)/.dev $(VENV)/.scatter ## Run the benchmarks, results in benchmarks/results (BENCH_ARGS=NAME ...)
	$(BIN)/python -m benchmarks run $(BENCH_ARGS)

clean: ## Remove the virtual environment and the caches
	rm -rf $(VENV) build dist docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp stands for one step of the installation and is made again when the pins or the package's needs change.
# torch comes first and alone: whatever follows finds it there and brings no other.
$(VENV)/.torch: $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint $(PINS) $(TORCH) setuptools wheel
	touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	$(PIP) install --constraint $(PINS) --editable .
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(PIP) install --constraint $(PINS) --editable '.[docs]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) install --constraint $(PINS) --editable '.[dev]'
	touch $@

# torch_scatter ships source alone and is compiled against the torch just installed: some five minutes, once. What pip has in
# its cache may have been compiled against another torch; then it does not load.
$(VENV)/.scatter: $(VENV)/.dev
	$(PIP) install --constraint $(PINS) --no-build-isolation torch_scatter
	$(BIN)/python -c 'import torch_scatter' || \
		$(PIP) install --constraint $(PINS) --no-build-isolation --no-cache-dir --no-deps --force-reinstall torch_scatter
	touch $@
