# `make serve` and `make test` do all their own set-up; the rest is for people who change Headway.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGE := src/headway/native

.PHONY: setup native serve test check format docs tutorial bench mutation clean
# The library is compiled by the installation too, but quietly; here a warning is seen, and sources
# that changed since are compiled again. Where there is none in the end, PyTorch has to compute.
setup: $(VENV)/.installed
	@$(BIN)/python native/build.py $(PACKAGE) --optional
	@ls $(PACKAGE)/libheadway.* > /dev/null 2>&1 || $(MAKE) --silent $(VENV)/.installed-torch

$(VENV)/.installed: pyproject.toml hatch_build.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-torch: $(VENV)/.installed
	@echo "PyTorch is installed, to compute instead (the extra headway[torch])." >&2
	$(BIN)/python -m pip install --quiet --editable '.[torch]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Fails where the library cannot be compiled, and takes ARGS="--debug" or ARGS="--sanitize address".
native:
	$(PYTHON) native/build.py $(PACKAGE) $(ARGS)

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

# `exec`, so that Ctrl-C and SIGTERM reach the server itself.
serve: setup
	@exec $(BIN)/headway serve $(ARGS)

test: setup $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

# Without ruff's cache, which does not notice that a new folder changes what counts as ours.
check: setup $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check --no-cache
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The site, in build/site. A broken link, or a page that the menu lacks, is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict --quiet

# What the tutorial's commands print and draw, anew.
tutorial: setup
	$(BIN)/python docs/tutorial/charts.py

bench: setup
	@$(BIN)/python benchmarks/headline.py $(ARGS)

# ARGS="scheduler --sample 40 --seed 1 --out results.json"; see benchmarks/mutation.md.
mutation: setup $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[mutation]'
	$(BIN)/python benchmarks/mutation.py $(ARGS)

clean:
	rm -rf $(VENV) build dist $(PACKAGE)/libheadway.* .mypy_cache .ruff_cache .pytest_cache
