# `make train` and `make test` need nothing but Python 3.11 to 3.13 and the package index.
PYTHON ?= python3
BIN = .venv/bin
# Settings, files and the mathematics: what answers within a minute.
FAST = $(addprefix tests/test_,$(addsuffix .py,checks config evaluations files imports \
	jacobian losses presets private_parts randomness settings))

.PHONY: train test test-fast test-slow fuzz guard lint docs clean

train: .venv/installed
	$(BIN)/python -m launch.train

test: lint
	$(BIN)/python -m pytest -q -n auto --dist worksteal

test-fast: lint
	$(BIN)/python -m pytest -q -n auto $(FAST)

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -q -n auto -m slow

fuzz: .venv/installed-dev
	$(BIN)/python -m pytest -q -n auto -m "slow or not slow" tests/test_fuzz_*.py --hypothesis-profile=fuzz

guard: .venv/installed
	$(BIN)/python -m benchmarks.guard

docs: .venv/installed
	$(BIN)/python -m jarn_tf.runs.tables docs

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv build dist *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	"Error: Python 3.11 to 3.13 is needed. Received: %d.%d. Use make PYTHON=python3.12, say." % v[:2])'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/bin/python requirements.txt requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
