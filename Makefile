# unreel: what happens in a folder of videos, and when.
# Lines that begin with two hashes are the help. Everything runs inside .venv, which is made when it is missing.

PYTHON ?= python3.11
VENV   ?= .venv
RUN    := $(VENV)/bin
# A CPU-only torch: set TORCH_INDEX to the address of PyTorch's CPU package index (pytorch.org, "Get started").
TORCH_INDEX ?=
DATA   ?= data
P      ?=
SEEDS  ?=
TOY    ?=
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint show clean

## make demo              draw a data set, train on it, answer for a folder of unseen videos (about 3 minutes)
demo: $(VENV)/ready
	@$(RUN)/python scripts/demo.py

## make test              the tests (under 10 minutes)
test: $(VENV)/ready
	$(RUN)/python -m pytest -q -n 2 --dist loadfile

## make test-slow         the tests that run in CI only: documentation, wheel, ...
test-slow: $(VENV)/ready
	$(RUN)/python -m pytest -v -m slow -n 2 --dist worksteal --durations 15

## make lint              ruff, pyright and import-linter
lint: $(VENV)/ready
	$(RUN)/ruff check .
	$(RUN)/ruff format --check -q .
	$(RUN)/lint-imports
	$(RUN)/pyright

## make show              list the promises; make show P=name DATA=folder proves one (SEEDS=3: other seeds than in its table; TOY=1: tiny data; FRESH=1: no earlier run is used)
show: $(VENV)/ready
	@$(RUN)/python scripts/show.py $(P) --data $(DATA) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(TOY),--toy)

$(VENV)/ready: pyproject.toml setup.py constraints.txt
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time) ..."
ifneq ($(TORCH_INDEX),)
	$(RUN)/pip install -q --index-url $(TORCH_INDEX) -c constraints.txt torch torchvision
endif
	@$(RUN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

## make clean             remove what tests and demo made (not .venv, not runs/)
clean:
	rm -rf .pytest_cache .ruff_cache .import_linter_cache build *.egg-info

help:
	@grep -E '^## ' $(MAKEFILE_LIST) | sed 's/^## //'
