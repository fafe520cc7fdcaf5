# `make` without a target lists the targets. You could type every line of a recipe yourself.

PYTHON ?= python3
PORT ?= 8080
UV_VERSION := 0.13.9

VENV := .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv

# The oldest supported Python if it is installed, else the Python of the virtual environment.
LOWEST_PYTHON ?= $(firstword \
	$(shell python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null) \
	$(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python3.10) \
	$(BIN)/python)
# A few days after Airflow 3.1.0. Nobody had tested newer packages with that version. FastAPI 0.118 appeared the next day:
# with it, the API server answers before it commits (apache/airflow#56239), so a request after a clear may see the old run.
LOWEST_DATE := 2025-09-28
# The lowest version of obstore is newer. No other package depends on which one it is.
OBSTORE_DATE := 2026-11-01
LOWEST_VENV := .venv-lowest

# Airflow keeps all its files inside the checkout, even if the caller has set AIRFLOW... variables.
unexport $(filter-out AIRFLOW_PRS_TEST_SQL,$(filter AIRFLOW%,$(.VARIABLES)))
export AIRFLOW_HOME := $(CURDIR)/.airflow-tests

.PHONY: help venv azurite browser screenshots demo demo-s3 ui env test test-all test-slow test-lowest test-storage kills bench bench-peers bench-storage bench-scale docs docs-serve dist check-dist lint format
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(VENV)/.synced  ## create the virtual environment with the locked versions

# The packages are compiled here, since some machines set PYTHONDONTWRITEBYTECODE: each process would compile them again.
$(VENV)/.synced: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "airflow_prs needs Python 3.10 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1). Choose another one: make PYTHON=python3.12 venv" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) sync --quiet --frozen --all-extras --compile-bytecode --python $(BIN)/python
	touch $@

azurite: .node/.installed  ## install Azurite, the server for the tests of Azure; needs Node.js

.node/.installed: $(addprefix tests/assets/azurite/,package.json package-lock.json)
	@command -v npm > /dev/null || { echo "make azurite needs Node.js 20 or newer, with npm" >&2; exit 1; }
	mkdir -p .node
	cp $^ .node
	npm ci --prefix .node --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

# Any Chromium does. A machine without one gets that of Debian.
browser:  ## install Chromium for the tests of the live page; needs apt-get, and root or sudo
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit; done; \
	test "$$(id -u)" = 0 || sudo=sudo; \
	command -v apt-get > /dev/null && command -v $${sudo:-sh} > /dev/null \
	  || { echo "make browser needs apt-get, and root or sudo. Without them, install Chromium and put it on PATH as chromium." >&2; exit 1; }; \
	$$sudo apt-get update --quiet=2 && $$sudo apt-get install --quiet=2 --yes chromium

screenshots: $(VENV)/.synced  ## take the pictures of the live page in docs/images anew, with a real run; needs Chromium
	$(BIN)/python -m tests.screenshots

demo demo-s3 ui: export AIRFLOW_HOME := $(CURDIR)/.airflow
demo demo-s3 ui: export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)/dags_examples
demo demo-s3 ui: export AIRFLOW__CORE__LOAD_EXAMPLES := False
demo demo-s3 ui: export AIRFLOW__CORE__EXECUTOR := LocalExecutor
demo: .airflow/.migrated  ## read 1,797 handwritten digits with `airflow dags test` and show the result
	@echo "A run of example_digits takes about half a minute. Its log is .airflow/demo.log"
	@$(BIN)/airflow dags test example_digits > .airflow/demo.log 2>&1 || { tail -n 20 .airflow/demo.log; exit 1; }
	@$(BIN)/python -m dags_examples.demo

demo-s3: .airflow/.migrated  ## run the example of object storage on a local S3 server and show the result
	@$(BIN)/python -m tests.demo_s3

.airflow/.migrated: $(VENV)/.synced
	@mkdir -p .airflow
	@$(BIN)/airflow db migrate > .airflow/demo.log 2>&1 || { tail -n 20 .airflow/demo.log; exit 1; }
	@touch $@

ui: export AIRFLOW__API__PORT := $(PORT)
ui: export AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION := False
ui: $(VENV)/.synced  ## start Airflow with the examples and print its address; Ctrl-C stops it
	@$(BIN)/python -m dags_examples.ui

env: .env  ## write .env for docker-compose.yaml, with fresh passwords and keys

# A secret is 32 bytes in URL-safe base64, which is the format of a Fernet key.
.env:
	umask 077; while IFS= read -r line; do \
	  case $$line in *=) line=$$line$$(head -c 32 /dev/urandom | base64 | tr +/ -_);; esac; \
	  printf '%s\n' "$$line"; \
	done < .env.example > .env

test: $(VENV)/.synced  ## run the tests
	$(BIN)/python -m pytest -m "not slow"

test-all: test-slow test-lowest  ## run the slow tests and the tests of the lowest versions; does not include `make test`

test-slow: $(VENV)/.synced
	$(BIN)/python -m pytest -m slow

test-storage: export KILL_SEEDS := 40
test-storage: export CASES_ON := seaweed moto azurite
test-storage: $(VENV)/.synced  ## on each server of object storage, kill nodes in 200 rounds, and kill and clear runs of a scheduler, which takes more than an hour
	$(BIN)/python -m pytest -m slow -k kills_on_object_storage tests/integration/test_node_kills.py
	$(BIN)/python -m pytest tests/system/test_whatever_dies_or_is_cleared.py

kills: export KILL_SEEDS := 200
kills: $(VENV)/.synced  ## kill nodes at random moments in 1,000 rounds, which takes about an hour
	$(BIN)/python -m pytest -m slow -k random_moments tests/integration/test_node_kills.py

# These tests create their own environments, or test only processes and files.
NOT_OF_VERSIONS := environments guard layout lending live_page more_nodes node_kills object_listings runs_command staging storage_faults

# Unit tests of what calls Airflow.
OF_AIRFLOW := airflow_side live operators sensors triggers

# Run the tests that use Airflow, pandas and pyarrow again with the lowest supported versions. test_types_survive is left
# out: it compares mini-batches with what the installed pandas makes of all data together, for example of whole numbers
# beyond 64 bits, and its expectations fit the pandas of the lock file.
test-lowest: export AIRFLOW_HOME := $(CURDIR)/.airflow-lowest
# Some tests create environments with uv, which is only in the other virtual environment.
test-lowest: export PATH := $(PATH):$(CURDIR)/$(BIN)
test-lowest: $(LOWEST_VENV)/.installed
	$(LOWEST_VENV)/bin/python -m pytest -m "not slow" $(addprefix tests/unit/,$(OF_AIRFLOW)) tests/integration tests/system $(addprefix --ignore tests/integration/test_,$(addsuffix .py,$(NOT_OF_VERSIONS) types_survive))

$(LOWEST_VENV)/.installed: Makefile $(VENV)/.synced
	$(UV) venv --quiet --clear --python $(LOWEST_PYTHON) $(LOWEST_VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(LOWEST_VENV) --resolution lowest-direct --exclude-newer $(LOWEST_DATE) --exclude-newer-package obstore=$(OBSTORE_DATE) --editable '.[examples,s3,azure]' --group test 'moto[server]>=5'
	touch $@

bench: $(VENV)/.synced  ## compare the cost with that of the alternatives, and write the table into docs/benchmarks.md
	$(BIN)/python -m benchmarks.bench

bench-storage: $(VENV)/.synced  ## measure requests and throughput on object storage, with SeaweedFS on this machine
	$(BIN)/python -m benchmarks.object_storage

bench-scale: $(VENV)/.synced  ## measure how the cost of a run grows up to 10,000,000 mini-batches in 1,000 shards
	$(BIN)/python -m benchmarks.scale

bench-peers: $(VENV)/.synced .venv-peers/.installed  ## compare the first rows with Joblib, Dask and Ray Data
	$(BIN)/python -m benchmarks.peers .venv-peers/bin/python

# Only this benchmark needs these packages, so they have a virtual environment of their own.
.venv-peers/.installed: benchmarks/peers.txt $(VENV)/.synced
	$(UV) venv --quiet --clear --python $(BIN)/python .venv-peers
	$(UV) pip install --quiet --compile-bytecode --python .venv-peers --requirement benchmarks/peers.txt
	touch $@

docs: $(VENV)/.synced  ## build the documentation as a site in .site; a warning is an error
	@test -x $(BIN)/zensical || { echo "make docs needs Python 3.11 or newer: make PYTHON=python3.12 venv" >&2; exit 1; }
	$(BIN)/zensical build --config-file .mkdocs.yml --strict

docs-serve: docs  ## show the documentation at http://localhost:8000; Ctrl-C stops it
	$(BIN)/zensical serve --config-file .mkdocs.yml

dist: $(VENV)/.synced  ## build the wheel and the source distribution in dist, and check them
	$(UV) build --quiet --clear
	$(MAKE) check-dist

check-dist: $(VENV)/.synced  ## check the files in dist: an environment with nothing else runs the first DAG
	DIST=dist $(BIN)/python -m pytest tests/test_wheel.py

lint: $(VENV)/.synced  ## run ruff (lint and format), mypy, import contracts, dependencies, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict airflow_prs tests/typing
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry airflow_prs dags_examples
	$(BIN)/codespell
	$(UV) lock --check --quiet

format: $(VENV)/.synced  ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
