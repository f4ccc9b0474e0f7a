# `make help` lists the targets. Everything lives in .venv; nothing is done twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard kernels/loops/*.pyx kernels/loops/*.h)

# Files in the order of tests/conftest.py, each in one process.
IN_PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder

# cython-lint looks for pycodestyle there.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Packages are installed without bytecode, which the first import of each module writes: without it,
# every process would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run node test test-long check parity pinot chaos soak attack audit bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv: pinned packages, this project, the compiled kernel

# Without bytecode: Python writes that of the modules which are imported, a fraction of them.
$(STAMP): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
		--constraint constraints.txt "setuptools>=77" "Cython>=3.1,<4"
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
		--no-build-isolation --constraint constraints.txt --editable ".[dev]"
	touch $@

run: $(STAMP) ## start the service on port 8001
	$(BIN)/python main.py

node: $(STAMP) ## execute background tasks of a shared database only
	$(BIN)/python main.py node

test: $(STAMP) ## the tests, but for those that take long
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not long" $(ARGS)

test-long: $(STAMP) ## the others: what the command line, deaths and real servers take
	$(BIN)/python -m pytest $(IN_PARALLEL) -m long $(ARGS)

parity: $(STAMP) ## only the tests that hold the kernels against each other
	$(BIN)/python -m pytest tests/kernels $(ARGS)

pinot: $(STAMP) ## fetch a real Apache Pinot and test against it
	tests/pinot/fetch.sh build/pinot
	PINOT_JARS=build/pinot $(BIN)/python -m pytest tests/pinot $(ARGS)

check: $(STAMP) ## ruff, formatting, mypy, import-linter, cython-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cython-lint kernels benchmarks

house: $(STAMP) ## print figures of the code's structure, and draw docs/house.svg
	$(BIN)/python -m tests.house

chaos: $(STAMP) ## kill the service in every part, and write docs/reliability.md (forty minutes)
	$(BIN)/python -m tests.chaos $(ARGS)

soak: $(STAMP) ## mixed load and deaths, and write docs/reliability.md (ten minutes)
	$(BIN)/python -m tests.soak $(ARGS)

attack: $(STAMP) ## attack the service, and write it into docs/security.md (half an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
		--constraint constraints.txt --editable ".[dev,attack]"
	$(BIN)/python -m tests.attack $(ARGS)

audit: ## ask the OSV database whether pinned versions have known vulnerabilities
	test -x build/audit/bin/python || $(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt pip-audit
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict \
		--vulnerability-service osv --progress-spinner off $(ARGS)

bench: $(STAMP) ## measure, and write docs/performance.md (half an hour on an idle machine)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
		--constraint constraints.txt --editable ".[dev,bench]"
	$(BIN)/python -m benchmarks.report

clean: ## remove .venv, builds and caches; the data folder stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find kernels -name '*.so' -delete
