# make demo   environment, installation, and the main job on the digits that come with the package
# make test   the test suite, on TensorFlow and (where a test is marked any_backend) on JAX
# PYTHON=/path/to/python3.12 chooses the interpreter; VENV=elsewhere chooses where the environment lies.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint benchmarks clean

help:
	@sed -n 's/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/resnet-tasks demo

test: $(VENV)/.installed-dev
	$(PYTEST)
	KERAS_BACKEND=jax $(PYTEST) -m "any_backend and not slow and not peers"

# Everything: the whole matrix, the notebooks, what compares with torch and KerasHub, on both backends.
test-all: $(VENV)/.installed-dev-peers lint
	$(PYTEST) -m ""
	KERAS_BACKEND=jax $(PYTEST) -m any_backend

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

benchmarks: $(VENV)/.installed-dev-peers
	for script in benchmarks/*.py; do $(BIN)/python "$$script" || exit 1; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "resnet-tasks needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# uv resolves and unpacks several times as fast as pip; where it is not to be had, pip does the same.
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check uv && \
	  $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --editable "$(1)" || \
	  $(BIN)/python -m pip install --disable-pip-version-check --editable "$(1)"

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(call install,.)
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(call install,.[dev])
	touch $@ $(VENV)/.installed

$(VENV)/.installed-dev-peers: $(BIN)/python pyproject.toml
	$(call install,.[dev,peers])
	touch $@ $(VENV)/.installed-dev $(VENV)/.installed
