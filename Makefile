# make run          starts the dashboard on this machine: http://127.0.0.1:8501
# make estimate     prints the estimate of the two headline scenarios
# make test         runs every check, with the versions of constraints.txt
# make check        the same without installing anything; tests run in five parts, three at a time
# make thorough     runs the tests of properties and of round trips with many more cases each
# make newest       runs every check with the newest versions that pyproject.toml allows, in .venv-newest
# make oldest       runs some of the tests with the oldest versions that it allows, in .venv-oldest
# make lock         writes constraints.txt anew, from the newest versions that it allows
# make bench        prints how fast it is
# make mutants      prints the share of small mistakes in the pricing rooms that their tests notice
# make fit          fits the constants that are shipped to the published runs, and cross-validates them
# make screenshots  takes the pictures of the pages that the documentation shows; needs Chromium
PYTHON ?= python3
TORCH ?= torch==2.13.0
LOCK ?= constraints.txt
VENV := .venv
OLDEST := .venv-oldest
BIN := $(VENV)/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(LOCK))

OF_OLDEST := hardware tests/hardware simulator/formulas tests/formulas tests/scenario tests/step/test_memory.py \
	tests/step/test_batches.py tests/step/test_conservation.py tests/step/test_time.py tests/specs/test_bad_configs.py \
	tests/specs/test_workload.py tests/commands/test_bad_input.py tests/commands/test_estimate.py \
	tests/commands/test_start.py tests/dashboard/test_plan_figures.py tests/dashboard/test_scale_page.py

OF_SEARCHES := tests/plan_search tests/launch tests/published tests/renting tests/evidence

.PHONY: run estimate test check lint types imports unit pages commands torch searches others thorough newest oldest lock mutants bench fit screenshots clean

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
	@$(MAKE) --no-print-directory --jobs=3 others pages searches commands torch

pages:
	$(BIN)/python -m pytest tests/dashboard

commands:
	$(BIN)/python -m pytest tests/commands

torch:
	$(BIN)/python -m pytest tests/against_torch tests/measure

searches:
	$(BIN)/python -m pytest $(OF_SEARCHES)

others:
	$(BIN)/python -m pytest $(addprefix --ignore=,tests/dashboard tests/commands tests/against_torch tests/measure $(OF_SEARCHES))

thorough: $(VENV)/dev
	@CAPSIM_THOROUGH=1 $(MAKE) --no-print-directory --jobs=3 pages others searches commands

newest:
	@$(MAKE) --no-print-directory LOCK= VENV=.venv-newest test

oldest: $(OLDEST)/tests
	$(OLDEST)/bin/python -m pytest $(OF_OLDEST)

lock:
	rm -rf .venv-lock
	@$(MAKE) --no-print-directory LOCK= VENV=.venv-lock .venv-lock/dev
	.venv-lock/bin/python -m tests.versions lock >.venv-lock/constraints.txt
	mv .venv-lock/constraints.txt constraints.txt
	rm -rf .venv-lock

mutants: $(VENV)/dev
	$(BIN)/python -m tests.mutation $(MUTANTS)

bench: $(VENV)/dev
	$(BIN)/python -m pytest tests/benchmarks/test_speed.py tests/benchmarks/test_pages.py --benchmark-columns=median,min,max,rounds

fit: $(VENV)/core
	$(BIN)/capsim fit -o simulator/pricing/constants.yaml

screenshots: $(VENV)/dev
	$(BIN)/python -m tests.dashboard.browser.screenshots

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "capsim needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/core: $(VENV)/bin/python pyproject.toml $(LOCK)
	$(INSTALL) --editable .
	@$(BIN)/python -m compileall -q hardware simulator measure dashboard
	@touch $@

$(VENV)/dashboard: $(VENV)/core
	$(INSTALL) --editable '.[dashboard]'
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(INSTALL) $(TORCH)
	$(INSTALL) --editable '.[measure,dashboard,cluster,dev]'
	@touch $@

$(OLDEST)/tests: pyproject.toml tests/versions.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the oldest versions need Python 3.11: make PYTHON=python3.11 oldest")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m tests.versions oldest >$(@D)/constraints.txt
	$(@D)/bin/pip install --quiet --disable-pip-version-check --constraint $(@D)/constraints.txt \
		--editable '.[dashboard]' hypothesis pytest
	@touch $@

clean:
	rm -rf $(VENV) .venv-newest $(OLDEST) .venv-lock build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
