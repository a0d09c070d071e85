# `make fit` and `make test` do everything from a fresh clone; a second call installs nothing.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
export OMP_NUM_THREADS ?= 2
export MPLBACKEND := Agg

.PHONY: help fit test clean

help:
	@echo "make fit    set up .venv, train the latency estimator on the shipped H200 profile, print its error table"
	@echo "make test   set up .venv, then check format, lint, types, imports and dependencies, and run all tests"
	@echo "make clean  remove .venv and caches (runs stay)"

$(INSTALLED): pyproject.toml constraints.txt
	@echo "==> virtual environment in .venv, packages as pinned in constraints.txt"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,notebooks]"
	@touch $@

fit: $(INSTALLED)
	@echo "==> training the latency estimator on assets/profiles/h200_graph, then its errors on held-out images and settings"
	$(BIN)/python main.py fit --config configs/latency_estimator/default.yaml
	@echo "==> curves: $(BIN)/tensorboard --logdir runs"

test: $(INSTALLED)
	@echo "==> format, lint, types, import contract, dependencies"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	@echo "==> tests"
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=auto --maxprocesses=4
	@echo "==> notebooks"
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=auto --maxprocesses=4 --nbmake notebooks

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
