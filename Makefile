# Every target sets up what it needs on a fresh machine: a virtual environment with the tested versions, made once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test lint types check bench bench-gpu

quickstart: $(READY)
	$(BIN)/aqa run experiments/quickstart.yaml

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: test lint types

# The benchmarks of speed, on two cores in a quarter of an hour. Every sample goes to benchmarks/results.
bench: DEVICE = cpu
bench-gpu: DEVICE = cuda
bench bench-gpu: $(READY)
	@$(BIN)/python benchmarks/train_step.py --device $(DEVICE) --data fisv fs1000 rg
	@$(BIN)/python benchmarks/evaluation.py --device $(DEVICE)
	@$(BIN)/python benchmarks/data.py --device $(DEVICE)
	@$(BIN)/python benchmarks/streaming.py --device $(DEVICE)
	@$(BIN)/python benchmarks/epoch.py --device $(DEVICE) --videos 32
	@$(BIN)/python benchmarks/models.py --device $(DEVICE)
	@$(BIN)/python benchmarks/growth.py --device $(DEVICE)

# torch goes first and by its exact version, so that an index or a wheel folder with a CPU build can serve it.
$(READY): setup.py requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)
