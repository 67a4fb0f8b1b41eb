# make demo [ONCE=1] [PORT=8040]   serves the example and a page that uses it, calls it once, and stays up (ONCE=1: ends)
# make console                     builds the console's pages, which every server of this clone then has
# make quick                       lint, import layers, types, and the tests of the core
# make test                        what must hold before anything is merged
# make fuzz [COUNT=20000]          generated programs in the sandbox against plain Python
# make oracle [N=500] [SEED=0]     compares every node type with Dify's own engine, over N generated graphs
# make soak [RUNS=500] [ROUNDS=3]  kills, pauses and cuts off processes and servers while runs are in flight
# make bench                       the table of docs/benchmarks.md
# make docs                        writes what in the docs is generated
# Needs Python 3.11 or later with pip, and nothing else that is not here; for the pages also Node 20.19 or later.

# uv makes the environment, from the lock. Where there is none, one is put into build/ and touches nothing else.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
ifeq ($(UV),)
UV := build/uv/bin/uv
UV_HERE := $(UV)
endif
PYTHON ?= python3
RUN := $(UV) run --no-sync
export ONCE PORT MODEL
unexport PYTHONDONTWRITEBYTECODE  # each of the processes that run tests would compile pytest's plugins

.DEFAULT_GOAL := help
.PHONY: help demo page console quick test lint types floors check core browser proxy fuzz oracle soak bench docs sync clean

help:
	@sed -n 's/^# \(make \)/\1/p' Makefile

demo: $(UV_HERE)
	@$(UV) sync --locked --no-dev --group examples --all-packages --inexact --compile-bytecode --quiet
	@! command -v npm >/dev/null || $(MAKE) --no-print-directory page || rm -f $(WEB)/dist/index.html
	@! command -v npm >/dev/null || $(MAKE) --no-print-directory console || rm -f $(CONSOLE)/index.html
	@$(RUN) python examples/product-detail/demo.py

# Product Studio's page and the console's. Where one cannot be built, the demo says so and serves the rest, and none of
# an earlier build. Both are made with what is in web/ui.
WEB := examples/product-studio/web
CONSOLE := src/headrace/api/console/static
UI := $(shell find web/ui -type f)
page: $(WEB)/dist/index.html
	@:

console: $(CONSOLE)/index.html
	@:

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json $(WEB)/index.html $(UI) $(shell find $(WEB)/src $(WEB)/public $(WEB)/*.ts -type f)
	@cd $(WEB) && npm run build --silent -- --logLevel warn

$(CONSOLE)/index.html: web/console/node_modules/.package-lock.json web/console/index.html $(UI) $(shell find web/console/src web/console/*.ts -type f)
	@cd web/console && npm run build --silent -- --logLevel warn

%/node_modules/.package-lock.json: %/package-lock.json
	@echo "Getting what $* is built with (once) ..."
	@cd $* && npm ci --omit=dev --loglevel=error --no-fund --no-update-notifier --fetch-retries=1 >/dev/null

# Lint first, since a mistake shows soon there. Layers and types are checked beside the tests.
test: lint
	@$(MAKE) --no-print-directory --jobs=3 floors types check

CORE := tests/kernel tests/dsl tests/nodes tests/engine tests/contracts
quick: lint
	@$(MAKE) --no-print-directory --jobs=3 floors types core

core: sync
	$(RUN) pytest -q -n auto $(CORE)

lint: sync
	$(RUN) ruff check
	$(RUN) ruff format --check

floors: sync
	$(RUN) lint-imports

# A larger young generation saves Node, which basedpyright runs on, an eighth of the CPU time.
types: sync
	NODE_OPTIONS=--max-semi-space-size=128 $(RUN) basedpyright

check: sync proxy
	$(RUN) pytest -q -n auto

# What the pages are tested in: Chromium's headless shell, or a whole Chromium, which takes three times the CPU time.
# Where neither can be found or installed, the tests of pages say loudly that they were skipped.
browser:
	@for name in chromium-headless-shell chromium; do command -v $$name || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$name fonts-noto-cjk; } && break; \
	done >/dev/null 2>&1 || true

# What stands before the installed package in the deployment's tests, and what reads its systemd unit; without them those
# tests say loudly that they were skipped. After the browser, since apt-get does one thing at a time.
proxy: browser
	@PATH="$$PATH:/usr/sbin"; { command -v nginx && command -v systemd-analyze; } >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light systemd; } \
	>/dev/null 2>&1 || true

COUNT ?= 20000
fuzz: sync
	$(RUN) python -m tests.sandbox.fuzz --count $(COUNT)

# Dify's engine needs a newer Python than the project does; uv looks on the PATH and among those it and pyenv installed.
ORACLE := build/oracle
N ?= 500
SEED ?= 0
oracle: sync
	@test -x $(ORACLE)/bin/python || { python=$$(oracle/python.sh $(UV)) && $(UV) venv --quiet --python "$$python" $(ORACLE); }
	@$(UV) pip sync --quiet --python $(ORACLE)/bin/python oracle/requirements.txt
	$(RUN) python -m oracle $(ORACLE)/bin/python --count $(N) --seed $(SEED)

RUNS ?= 500
ROUNDS ?= 3
soak: SOAK_SEED = $(if $(filter command line environment,$(origin SEED)),--seed $(SEED))
soak: sync
	$(RUN) python -m tests.soak --runs $(RUNS) --rounds $(ROUNDS) --by postgresql $(SOAK_SEED)
	$(RUN) python -m tests.soak --runs $(RUNS) --rounds $(ROUNDS) --by valkey $(SOAK_SEED)
	$(RUN) python -m tests.soak --runs $(RUNS) --rounds $(ROUNDS) --by temporal $(SOAK_SEED)

bench: sync
	$(RUN) python benchmarks/run.py

docs: sync
	$(RUN) python docs/generate.py
	$(RUN) python examples/collection/generate.py

sync: $(UV_HERE)
	@$(UV) sync --locked --compile-bytecode --quiet

build/uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target build/uv uv

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
