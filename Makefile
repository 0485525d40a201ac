# One virtual environment, .venv in the checkout, serves all targets; `make venv` makes it and the others call it.
# Nothing here asks a question: all of it runs without a terminal.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.m2m-installed
EXTRAS := display,train,bench,dev
ARGS ?=

# The first of these that is new enough, and that all dependencies have wheels for.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
endif
# Python's warnings are off: setuptools warns of any package beside its sources, which is what an editable one is.
PIP := PYTHONWARNINGS=ignore PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-long fuzz lint format docs figures bench constraints schemas clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

venv: $(INSTALLED) ## Make .venv with everything in it (a second call does nothing)

$(INSTALLED): pyproject.toml constraints.txt tools/system_libraries.py
	@test -n "$(PYTHON)" || { echo "m2m-live needs Python 3.11, 3.12 or 3.13, and none was found. Install one, or name it:" \
		"make venv PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) tools/system_libraries.py
	@echo "Making $(VENV) with $$($(PYTHON) --version): the first time this downloads about 1 GB and takes some minutes." >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -c constraints.txt --upgrade pip
	@$(PIP) install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

demo: $(INSTALLED) ## Show the main job on a simulated subject (ARGS="--headless --json" ...)
	@$(BIN)/m2m demo $(ARGS)

test: lint ## Lint, check types, run the tests
	@$(BIN)/python -m pytest $(ARGS)

test-long: $(INSTALLED) ## Run the tests that take minutes
	@$(BIN)/python -m pytest -m long $(ARGS)

fuzz: $(INSTALLED) ## Mutate settings, messages, commands and model files 10,000 times each
	@$(BIN)/python -m pytest -m long tests/fuzz $(ARGS)

lint: $(INSTALLED) ## Lint, check the format, check types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: $(INSTALLED) ## Bring the code into its format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(INSTALLED) ## Build the documentation into site/, strictly
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file .mkdocs.yml
	@echo "The documentation is in site/index.html"

figures: $(INSTALLED) ## Draw the pictures of docs/images that show heads, fields and maps
	@$(BIN)/python -m tools.docs_figures $(ARGS)

# The demo measures latency, accuracy and accounting itself, in a minute; `m2m bench latency` takes half an hour for it.
bench: $(INSTALLED) ## Measure latency: the demo without a window, figures as JSON
	@$(BIN)/m2m demo --headless --pulses 60 --seed 3 --json $(ARGS)

constraints: $(INSTALLED) ## Pin the newest versions that fit (after a change of dependencies)
	@$(BIN)/python tools/pin_versions.py

schemas: $(INSTALLED) ## Write docs/schemas/ from the message types
	@$(BIN)/python -m tools.schemas

clean: ## Remove what was built; .venv and recordings stay
	@rm -rf build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
