PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: run test test-all prove check format install install-dev browser clean

run: install ## run the packaged example and say where its dataset is
	$(BIN)/augment run

test: install-dev ## the fast tests
	$(BIN)/pytest -m "not slow and not server and not prove" -n $(JOBS)

test-all: install-dev ## everything but the long learning proofs: servers, workers, kills, a browser where there is one
	$(BIN)/pytest -m "slow and not server and not prove" -n $(JOBS) --dist loadfile
	$(BIN)/pytest -m "server and not prove"

prove: install-dev ## the long learning proofs
	$(BIN)/pytest -m prove

check: install-dev ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

browser: ## Debian's Chromium, for the tests that look at pages
	apt-get update -qq && apt-get install -y -qq chromium

clean:
	rm -rf $(VENV) build *.egg-info
