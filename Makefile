# `make` alone lists the targets. Every recipe is made of lines that a person could type.

PYTHON ?= python3
PORT ?= 8080
UV_VERSION := 0.13.9

VENV := .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv

# The oldest Python that the package promises, where there is one; else the virtual environment's own.
LOWEST_PYTHON ?= $(firstword \
	$(shell python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null) \
	$(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python3.10) \
	$(BIN)/python)
# A few days after Airflow 3.1.0: what is newer was never tried with it. The next day came FastAPI 0.118, with which its
# API server answers before it commits (apache/airflow#56239), so that one who clears a run and asks may see the old one.
LOWEST_DATE := 2025-09-28
LOWEST_VENV := .venv-lowest

# Airflow keeps everything inside the checkout, whatever the caller's own AIRFLOW... variables say.
unexport $(filter-out AIRFLOW_PRS_TEST_SQL,$(filter AIRFLOW%,$(.VARIABLES)))
export AIRFLOW_HOME := $(CURDIR)/.airflow-tests

.PHONY: help venv demo ui env test test-all test-slow test-lowest bench bench-peers docs docs-serve lint format
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(VENV)/.synced  ## make the virtual environment with the locked versions

$(VENV)/.synced: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "airflow_prs needs Python 3.10 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 venv" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) sync --quiet --frozen --all-extras --python $(BIN)/python
	touch $@

demo ui: export AIRFLOW_HOME := $(CURDIR)/.airflow
demo ui: export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)/dags_examples
demo ui: export AIRFLOW__CORE__LOAD_EXAMPLES := False
demo ui: export AIRFLOW__CORE__EXECUTOR := LocalExecutor
demo: .airflow/.migrated  ## read 1,797 handwritten digits with `airflow dags test` and show the result
	@echo "A run of example_digits takes about half a minute. Its log is .airflow/demo.log"
	@$(BIN)/airflow dags test example_digits > .airflow/demo.log 2>&1 || { tail -n 20 .airflow/demo.log; exit 1; }
	@$(BIN)/python -m dags_examples.demo

.airflow/.migrated: $(VENV)/.synced
	@mkdir -p .airflow
	@$(BIN)/airflow db migrate > .airflow/demo.log 2>&1 || { tail -n 20 .airflow/demo.log; exit 1; }
	@touch $@

ui: export AIRFLOW__API__PORT := $(PORT)
ui: export AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION := False
ui: $(VENV)/.synced  ## start Airflow with the examples and say where, until Ctrl-C
	@$(BIN)/python -m dags_examples.ui

env: .env  ## write .env for docker-compose.yaml, with fresh passwords and keys

# A secret is 32 bytes in URL-safe base64, which is what Fernet wants as a key.
.env:
	umask 077; while IFS= read -r line; do \
	  case $$line in *=) line=$$line$$(head -c 32 /dev/urandom | base64 | tr +/ -_);; esac; \
	  printf '%s\n' "$$line"; \
	done < .env.example > .env

test: $(VENV)/.synced  ## run the tests
	$(BIN)/python -m pytest -m "not slow"

test-all: test-slow test-lowest  ## run what takes longer, nothing of `make test`

test-slow: $(VENV)/.synced
	$(BIN)/python -m pytest -m slow

# These make environments of their own, or are about nothing but processes and files.
NOT_OF_VERSIONS := environments guard lending node_kills

# What touches Airflow, pandas and pyarrow, again with the lowest versions promised. What test_types_survive holds pieces
# against, whole numbers beyond 64 bits among it, is what the installed pandas makes of the whole: that of the lock file.
test-lowest: export AIRFLOW_HOME := $(CURDIR)/.airflow-lowest
# uv, which some tests let make environments, is in the other virtual environment alone.
test-lowest: export PATH := $(PATH):$(CURDIR)/$(BIN)
test-lowest: $(LOWEST_VENV)/.installed
	$(LOWEST_VENV)/bin/python -m pytest -m "not slow" tests/integration tests/system $(addprefix --ignore tests/integration/test_,$(addsuffix .py,$(NOT_OF_VERSIONS) types_survive))

$(LOWEST_VENV)/.installed: Makefile $(VENV)/.synced
	$(UV) venv --quiet --clear --python $(LOWEST_PYTHON) $(LOWEST_VENV)
	$(UV) pip install --quiet --python $(LOWEST_VENV) --resolution lowest-direct --exclude-newer $(LOWEST_DATE) --editable '.[examples]' --group test
	touch $@

bench: $(VENV)/.synced  ## measure our cost beside what one would pick instead, and write the table into docs/benchmarks.md
	$(BIN)/python -m benchmarks.bench

bench-peers: $(VENV)/.synced .venv-peers/.installed  ## measure Joblib, Dask and Ray Data beside the first rows
	$(BIN)/python -m benchmarks.peers .venv-peers/bin/python

# Packages that nothing else here needs, with the versions of the others that ours run with.
.venv-peers/.installed: benchmarks/peers.txt $(VENV)/.synced
	$(UV) venv --quiet --clear --python $(BIN)/python .venv-peers
	$(UV) pip install --quiet --python .venv-peers --requirement benchmarks/peers.txt
	touch $@

docs: $(VENV)/.synced  ## build the documentation as a site in .site; a warning is an error
	@test -x $(BIN)/zensical || { echo "make docs needs Python 3.11 or newer: make PYTHON=python3.12 venv" >&2; exit 1; }
	$(BIN)/zensical build --config-file .mkdocs.yml --strict

docs-serve: docs  ## show the documentation at http://localhost:8000, until Ctrl-C
	$(BIN)/zensical serve --config-file .mkdocs.yml

lint: $(VENV)/.synced  ## ruff (lint and format), mypy, import contract, dependencies, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict airflow_prs
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry airflow_prs dags_examples
	$(BIN)/codespell
	$(UV) lock --check --quiet

format: $(VENV)/.synced  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
