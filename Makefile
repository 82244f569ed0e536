# Two commands need nothing but Python 3.11 and make: `make quickstart` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install quickstart test lint bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,examples]'
	touch $@

quickstart: install
	$(BIN)/prefrec quickstart

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two files of tests at a time: much of their time is waiting for processes of Ray.
test: lint
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile --no-loadscope-reorder

# Some 17 minutes on two cores; D3RLPY=python of an environment with d3rlpy adds it to the peers.
bench: install
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks $(if $(D3RLPY),--d3rlpy $(D3RLPY))

clean:
	rm -rf $(VENV)
