# make demo    makes .venv, installs, and runs the main job on the digits that come with the package
# make test    the tests, on TensorFlow and then, where a test is marked any_backend, on JAX
# make test-all, make lint, make benchmarks, make clean
# PYTHON=/path/to/python3.12 names the interpreter, VENV=elsewhere the folder of the environment.

SUITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUITS)' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
everything := .[dev,peers]

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint benchmarks clean

help:
	@sed -n '1,4s/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/resnet-tasks demo

test: $(VENV)/.installed-dev
	$(PYTEST) $(BESIDE)
	KERAS_BACKEND=jax $(PYTEST) $(BESIDE) -m "any_backend and not slow and not peers"

# Much of a test is tracing, which takes one core: files of tests run beside one another.
BESIDE := --numprocesses=2 --dist=loadfile

# Some builds of torch crash when TensorFlow is in their process, so what imports torch itself has a process of its own.
WITH_TORCH := tests/weights/test_files_of_peers.py tests/weights/test_sources.py

test-all: $(VENV)/.installed-dev-peers lint
	$(PYTEST) -m "" $(WITH_TORCH:%=--ignore=%)
	$(PYTEST) -m "" $(WITH_TORCH)
	KERAS_BACKEND=jax $(PYTEST) -m any_backend

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

benchmarks: $(VENV)/.installed-dev-peers
	for script in benchmarks/*.py; do $(BIN)/python "$$script" || exit 1; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache

$(BIN)/python:
	@"$(PYTHON)" -c '$(SUITS)' 2>/dev/null || { \
	  echo "Python 3.11, 3.12 or 3.13 expected, and $(if $(PYTHON),$(PYTHON) is not,the PATH has none)." \
	       "Name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# uv resolves and unpacks several times as fast as pip.  It does not read pip's settings: an index of one's own is handed
# to it, and where it cannot be had or fails, pip does the same.
define install
	@echo "installing resnet-tasks into $(VENV) ..."
	@index=$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null && \
	$${index:+env UV_DEFAULT_INDEX="$$index"} $(BIN)/python -m uv pip install --quiet --python $(BIN)/python -e "$(1)" || \
	$(BIN)/python -m pip install --disable-pip-version-check -e "$(1)"
endef

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(call install,.)
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(call install,.[dev])
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev-peers: $(BIN)/python pyproject.toml
	$(call install,$(everything))
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed
