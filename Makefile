# make run          starts the dashboard on this machine: http://127.0.0.1:8501
# make estimate     prints the estimate of the two headline scenarios
# make test         runs every check
# make check        the same without installing anything; pages (in a browser) and others run side by side
# make bench        prints how fast it is
# make fit          fits the constants that are shipped to the published runs, and cross-validates them
# make screenshots  takes the pictures of the pages that the documentation shows; needs Chromium
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run estimate test check lint types imports unit pages others bench fit screenshots clean

run: $(VENV)/dashboard
	@$(BIN)/capsim dashboard

estimate: $(VENV)/core
	@$(BIN)/capsim estimate simulator/specs/scenarios/bert-large.yaml
	@$(BIN)/capsim estimate simulator/specs/scenarios/palm-540b.yaml

test: $(VENV)/dev check

check: lint types imports unit

lint:
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

unit:
	@$(MAKE) --no-print-directory --jobs=2 pages others

pages:
	$(BIN)/python -m pytest tests/dashboard

others:
	$(BIN)/python -m pytest --ignore=tests/dashboard

bench: $(VENV)/dev
	$(BIN)/python -m pytest tests/benchmarks/test_speed.py tests/benchmarks/test_pages.py --benchmark-columns=median,min,max,rounds

fit: $(VENV)/core
	$(BIN)/capsim fit -o simulator/pricing/constants.yaml

screenshots: $(VENV)/dev
	$(BIN)/python -m tests.dashboard.browser.screenshots

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "capsim needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/core: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -m compileall -q hardware simulator measure dashboard
	@touch $@

$(VENV)/dashboard: $(VENV)/core
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dashboard]'
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[measure,dashboard,cluster,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
