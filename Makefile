# The commands of this repository. `make setup` needs only Python 3.10 to 3.13 and pip; all others set up first where needed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)
INSTALLED := $(VENV)/installed
SCATTER := $(VENV)/scatter

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format scatter test-scatter clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: $(INSTALLED)  ## Make .venv and install gmmrec with its development tools (PYTHON=python3.12 picks another Python)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 10) <= v[:2] <= (3, 13) or sys.exit("gmmrec needs Python 3.10 to 3.13, but \
	$(PYTHON) is Python %d.%d; name another one: make setup PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)

# torch goes first and by its exact version, so that a machine set up for the CPU build finds that one.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) $(TORCH)
	$(PIP) --editable '.[dev]'
	@touch $@

demo: setup  ## Train MGAT on the bundled movies and show what it recommends
	$(BIN)/python benchmarks/demo.py

test: lint  ## Everything that must pass before a commit: lint, then all tests and the examples of the docstrings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# mypy refuses a misspelt setting in any model; tests/test_recommender.py plants one at every place and sees that it does.
lint: setup  ## Style, types, import rules, and the rules of the house (tests/house)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.house

format: setup  ## Put the code in its form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

scatter: $(SCATTER)  ## Build the optional torch-scatter against the installed torch (a C++ compiler, some minutes)

# A cached build may belong to another torch, so none is used. Compilers run side by side (2 GB each) unless CUDA code is built too.
$(SCATTER): constraints.txt | $(INSTALLED)
	$(PIP) setuptools
	jobs=$$($(BIN)/python -c 'import os, torch; print(1 if torch.cuda.is_available() else min(os.cpu_count(), 4))') && \
	$(PIP) --no-build-isolation --no-deps --force-reinstall --no-cache-dir \
	--config-settings=--build-option=build_ext --config-settings=--build-option=--parallel=$$jobs torch-scatter
	@touch $@

test-scatter: setup  ## The segment tests again, and this time torch-scatter must be there
	$(BIN)/python -c 'import torch_scatter'
	$(BIN)/python -m pytest tests/nn/test_segment.py tests/nn/test_segment_scatter.py

clean:  ## Remove .venv, caches and build products (not runs/)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
