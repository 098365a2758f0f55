# make demo    train on the built-in demo set, export, verify, and run the exported file
# make test    check the style and run the tests
# make clean   remove what these made
# Each makes the environment .venv when it is missing, and renews it when pyproject.toml has changed.
#
#   PYTHON=python3.12          which Python makes .venv (default: the first that fits)
#   TORCH='torch==2.13.*'      also install this and test the layers on it; on Linux the common build of torch brings
#                              gigabytes of GPU libraries, so that it is never installed unasked

PYTHON ?= python3.11 python3.12 python3.13 python3
TORCH ?=
RUNS := runs/demo
PIP := .venv/bin/python -m pip install --disable-pip-version-check --quiet --quiet
PYTEST := .venv/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --quiet

ON_EVERY_BACKEND := tests/layers tests/train/test_resume.py tests/train/test_diagnosis.py \
  tests/recipes/test_every_backend.py

.PHONY: help demo test clean
.SUFFIXES:

help:
	@sed -n 's/^# make/make/p' Makefile

demo: .venv/ready
	rm -rf $(RUNS)
	.venv/bin/zoo train keyword_spotting --out $(RUNS)/run
	.venv/bin/zoo export $(RUNS)/run --out $(RUNS)/keywords
	.venv/bin/zoo verify $(RUNS)/keywords
	.venv/bin/zoo run $(RUNS)/keywords zoo/data/demo/seven.wav

test: .venv/ready-to-test $(if $(TORCH),.venv/ready-for-torch)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	$(PYTEST)
	KERAS_BACKEND=jax $(PYTEST) $(ON_EVERY_BACKEND) tests/export/test_pruning.py tests/export/test_distillation.py
	@if .venv/bin/python -c 'import torch' 2>/dev/null; then \
	  echo "KERAS_BACKEND=torch $(PYTEST) $(ON_EVERY_BACKEND)"; \
	  KERAS_BACKEND=torch $(PYTEST) $(ON_EVERY_BACKEND); \
	else \
	  echo "torch: skipped, as torch is not in .venv; make test TORCH=torch installs and tests it."; \
	fi

clean:
	rm -rf .venv build dist runs *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: pyproject.toml | .venv/bin/python
	@echo "Installing the package and what it needs into .venv; the first time takes minutes."
	$(PIP) --editable .
	@touch $@

.venv/ready-to-test: .venv/ready
	@echo "Installing what the tests need into .venv."
	$(PIP) --editable '.[test,jax,micro]'
	@touch $@

.venv/ready-for-torch: .venv/ready-to-test
	$(PIP) '$(TORCH)'
	@touch $@

.venv/bin/python:
	@for python in $(PYTHON); do \
	  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	  $$python -c 'import ensurepip, venv' 2>/dev/null || { missing=$$python; continue; }; \
	  echo "Creating .venv with $$python."; \
	  $$python -m venv --clear .venv || { rm -rf .venv; exit 1; }; \
	  exit 0; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "$$missing has no module venv, which the environment needs: install it (on Debian: apt install python3-venv)." >&2; \
	else \
	  echo "No Python 3.11 to 3.13 among: $(PYTHON). Install one, or name one: make PYTHON=/path/to/python3.11" >&2; \
	fi; \
	exit 1
