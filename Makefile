# `make` alone lists the targets. ARGS="..." is passed on, e.g. make run ARGS="seed=2 trainer.max_epochs=6".
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test check bench pretrain clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## create the environment in .venv and install the project (once)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; name one with PYTHON=..."; exit 1; }
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(STAMP): setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (a few minutes, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,dev]"
	@touch $(STAMP)

run: $(STAMP) ## train, curate and evaluate: the main job on the embedded world
	@$(BIN)/python -m mrm.run experiment=dt2it_full $(ARGS)

test: $(STAMP) ## run the tests (ARGS="-m slow" for the long ones)
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## format, lint, types and quick tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest $(ARGS)

bench: $(STAMP) ## measure the throughput of data and model
	@$(BIN)/python -m mrm.bench $(ARGS)

pretrain: $(STAMP) ## make the packaged tiny backbone again (about ten minutes on two cores)
	@$(BIN)/python -m mrm.pretrain_tiny $(ARGS)

clean: ## remove the environment and all caches; runs and data stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
