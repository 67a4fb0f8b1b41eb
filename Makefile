# make demo [ONCE=1] [PORT=8040]   serves the example, calls it once, and stays up (ONCE=1: ends)
# make test                        what must hold before anything is merged
# make bench                       the table of docs/benchmarks.md
# make docs                        writes what in the docs is generated
# Needs Python 3.11 or later with pip, and nothing else that is not here.

# uv makes the environment, from the lock. Where there is none, one is put into build/ and touches nothing else.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
ifeq ($(UV),)
UV := build/uv/bin/uv
UV_HERE := $(UV)
endif
PYTHON ?= python3
RUN := $(UV) run --no-sync
export ONCE PORT MODEL

.DEFAULT_GOAL := help
.PHONY: help demo test lint types floors check bench docs sync clean

help:
	@sed -n 's/^# \(make \)/\1/p' Makefile

demo: $(UV_HERE)
	@$(UV) sync --locked --no-dev --inexact --compile-bytecode --quiet
	@$(RUN) python examples/product-detail/demo.py

# The quick ones first, so that a mistake is told soon.
test: lint floors types check

lint: sync
	$(RUN) ruff check
	$(RUN) ruff format --check

floors: sync
	$(RUN) lint-imports

types: sync
	$(RUN) basedpyright

check: sync
	$(RUN) pytest -q

bench: sync
	$(RUN) python benchmarks/run.py

docs: sync
	$(RUN) python docs/generate.py

sync: $(UV_HERE)
	@$(UV) sync --locked --compile-bytecode --quiet

build/uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target build/uv uv

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
