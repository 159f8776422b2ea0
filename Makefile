# The two commands of the README are `make demo` and `make test`; both do all their own set-up.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp-dev
PIP_FLAGS := -q --disable-pip-version-check
# A file of tests stays in one process; 2 processes are what two cores carry.
TEST_JOBS ?= 2

export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test test-long bench lint setup clean report-picture
.DEFAULT_GOAL := help

help:
	@echo "make demo        one wafer through the whole chain; ends with the path of an HTML report"
	@echo "make test        lint, types, import contract and all tests but the long ones"
	@echo "make test-long   the long checks"
	@echo "make bench       a table of figures and reports/bench.json"

$(PY):
	$(PYTHON) -m venv $(VENV)

$(STAMP): constraints.txt pyproject.toml | $(PY)
	$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev,dask]'
	@touch $(STAMP)

setup: $(STAMP)

demo: $(STAMP)
	$(PY) -m yieldkit demo --out reports/demo

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: lint
	$(PY) -m pytest -n $(TEST_JOBS) --dist loadfile

test-long: $(STAMP)
	$(PY) -m pytest -m "long or not long"

bench: $(STAMP)
	$(PY) -m tests.bench --out reports/bench.json

report-picture: $(STAMP)
	$(PY) docs/images/make_report.py reports/demo/report.html

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
