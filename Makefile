# One command a task; `make help` lists them. Every path is relative, so a checkout may lie anywhere.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
NPM_READY := $(if $(shell command -v npm),tests/npm/node_modules/.package-lock.json)

.DEFAULT_GOAL := help
.PHONY: help run test quick lint format bench lock clean moved

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
	@echo 'PYTHON=python3.13 picks the interpreter of a new .venv; ARGS=... goes on to run, test, quick, bench, lock.'

run: $(READY) ## start a demo node: mock carriers, a tenant, a key, a curl line to try
	$(BIN)/hermes demo $(ARGS)

test: $(READY) $(NPM_READY) ## run the whole suite
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

quick: $(READY) $(NPM_READY) ## run the tests that need less than a minute together
	$(BIN)/python -m pytest -n 3 --dist loadfile -m 'not slow' $(ARGS)

lint: $(READY) ## check style, types and who imports whom
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

format: $(READY) ## let ruff rewrite what it can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench: $(READY) ## measure the figures we publish: every command in benchmarks/
	@for command in benchmarks/[!_]*.py; do echo "$$command"; $(BIN)/python "$$command" $(ARGS) || exit 1; done

lock: $(READY) ## pin what pyproject.toml and tests/npm/package.json ask for (ARGS=--upgrade: newest)
	CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/python -m piptools compile --quiet $(ARGS) pyproject.toml
	$(if $(NPM_READY),cd tests/npm && npm install --package-lock-only --ignore-scripts)

clean: ## remove what these targets made, .venv included
	rm -rf .venv tests/npm/node_modules build dist *.egg-info
	rm -rf .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp holds the folder .venv was made in: scripts in it name that folder, so a moved checkout needs a new one.
ifneq ("$(shell cat $(READY) 2>/dev/null)","$(CURDIR)")
$(READY): moved
endif

$(READY): requirements.lock pyproject.toml setup.cfg
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Hermes needs Python 3.11 or newer, which "$(PYTHON)" is not. Name one: make PYTHON=python3.13' >&2; exit 1; }
	@if [ -e $(READY) ] && [ "$$(cat $(READY))" != "$$(pwd -P)" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo 'Making .venv'; "$(PYTHON)" -m venv --clear .venv; fi
	@rm -f $(READY)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@pwd -P > $(READY)

tests/npm/node_modules/.package-lock.json: tests/npm/package.json tests/npm/package-lock.json
	cd tests/npm && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier
	@touch $@
