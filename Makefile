# Every target sets up what it needs on a fresh machine: a virtual environment with the tested versions, made once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test coverage lint types docs check bench bench-gpu

quickstart: $(READY)
	$(BIN)/aqa run experiments/quickstart.yaml

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup

# The same with every line counted, which takes about twice as long; under 90 % is an error.
coverage: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Strictly: a broken link, a missing page or a name that is not there is an error. Nothing is fetched.
docs: $(READY)
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build
	@echo "the site: docs/_build/index.html"

check: test lint types docs

# The benchmarks of speed. Every sample goes to benchmarks/results. On a GPU first the table of what one asks of it;
# without one that is a dry run, and the others, which would have nothing to measure, are left out.
bench: DEVICE = cpu
bench: $(READY)
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.train_step --device $(DEVICE) --data fisv fs1000 rg $(STEPS)
	@$(BIN)/python -m benchmarks.evaluation --device $(DEVICE)
	@$(BIN)/python -m benchmarks.data --device $(DEVICE)
	@$(BIN)/python -m benchmarks.checking
	@$(BIN)/python -m benchmarks.streaming --device $(DEVICE)
	@$(BIN)/python -m benchmarks.epoch --device $(DEVICE) --videos 32
	@$(BIN)/python -m benchmarks.models --device $(DEVICE)
	@$(BIN)/python -m benchmarks.gaussian_process --device $(DEVICE)
	@$(BIN)/python -m benchmarks.growth --device $(DEVICE)

bench-gpu: $(READY)
	@$(BIN)/python -m benchmarks.gpu
	@if $(BIN)/python -c "import torch; raise SystemExit(not torch.cuda.is_available())"; then \
		$(MAKE) --no-print-directory bench DEVICE=cuda STEPS="--precision float32 tf32 bf16 --compile"; \
	else echo "the other benchmarks (make bench DEVICE=cuda): need CUDA"; fi

# torch goes first and by its exact version, so that an index or a wheel folder with a CPU build can serve it.
$(READY): setup.py requirements.txt
	@echo "setting up $(VENV) with the tested versions: some minutes, once"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)
