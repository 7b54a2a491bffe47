# Everything needs only git, make and Python 3.10 or newer; `make help` tells what there is.
PYTHON ?= python3
TORCH_INDEX ?=
NOTEBOOKS ?=
SEED ?= 0

BIN = .venv/bin
READY = .venv/.ready
MAKES = $(BIN)/python -m anovl_companion
FIRST = python -m anovl localize notebooks/pictures/leather/new --object leather --normal notebooks/pictures/leather/normal
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup test parity lint notebooks exercises reproduce run train bench verify clean

help:
	@echo "make setup       make .venv and install everything into it (the others do so when needed)"
	@echo "make reproduce   run the notebooks, compare their results with those committed; NOTEBOOKS= too"
	@echo "make test        check the style, then run every test and every notebook"
	@echo "make parity      compare with the published arrays at full size; needs ../shared"
	@echo "make notebooks   run the notebooks and keep all that is new; NOTEBOOKS='notebooks/01*' for some"
	@echo "make exercises   make the students' notebooks from the solved ones"
	@echo "make run         measure all that the notebooks tell; half an hour a model, a killed one goes on"
	@echo "make bench       measure what things cost, into figures/bench; minutes, on an idle machine"
	@echo "make train       train the pocket model with SEED=0; hours, a killed one goes on"
	@echo "make verify      check figures and tables against their records"
	@echo "make lint        check the style only"
	@echo "make clean       remove caches; .venv stays (rm -r .venv removes it)"
	@echo
	@echo "PYTHON=python3.12 chooses the Python that .venv is made with."
	@echo "TORCH_INDEX=URL takes PyTorch from its index of CPU wheels (see pytorch.org): less disk space."

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo "There is no $(PYTHON) here: install Python 3.10 or newer, or name one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed, and this is `$(PYTHON) --version 2>&1`: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments: install its venv module (python3-venv) first"; exit 1; }
	@echo "Installing into .venv: several minutes and, with CUDA, several GB (see README) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -z "$(TORCH_INDEX)" || $(PIP) --no-deps --index-url "$(TORCH_INDEX)" torch torchvision
	@$(PIP) --editable '.[notebooks,test]'
	@touch $@
	@echo "Ready. Now type these two lines:"
	@echo "  source $(BIN)/activate"
	@echo "  $(FIRST)"

lint: $(READY)
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

test: lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

parity: $(READY)
	@$(BIN)/python -m pytest tests -m full

notebooks: $(READY)
	@$(MAKES) notebooks $(NOTEBOOKS)

exercises: $(READY)
	@$(MAKES) exercises

reproduce: $(READY)
	@$(MAKES) reproduce $(NOTEBOOKS)

run: $(READY)
	@$(MAKES) run --jobs 2

train: $(READY)
	@$(MAKES) train --out runs/training/seed$(SEED) --seed $(SEED)

verify: $(READY)
	@$(MAKES) verify figures

bench: $(READY)
	@$(MAKES) bench --out figures/bench

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache figures/quick*
	find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +
