# Every target sets up what it needs on a fresh machine: a virtual environment with the tested versions, made once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Every benchmark of speed; those of sweeps, reports and tracking have their own commands.
BENCHMARKS := train_step epoch models growth

.PHONY: quickstart test lint types check bench bench-gpu

quickstart: $(READY)
	$(BIN)/aqa run experiments/quickstart.yaml

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: test lint types

# About ten minutes on two cores; every sample goes to benchmarks/results. BENCH_OPTIONS goes to each benchmark.
bench: $(READY)
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --device cpu $(BENCH_OPTIONS); done

bench-gpu: $(READY)
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --device cuda $(BENCH_OPTIONS); done

# torch goes first and by its exact version, so that an index or a wheel folder with a CPU build can serve it.
$(READY): setup.py requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)
