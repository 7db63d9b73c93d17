# From a bare clone: `make demo` shows the tool at work, `make test` runs the whole test suite.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test integrations lint docs clean

demo: $(VENV)/.installed
	@$(BIN)/deadrelu scan sample_models/dying.pt --data sample_models/digits.npz

test: $(VENV)/.developed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal --durations 25

# In an environment of its own: what these packages pull in is not for every developer.
INTEGRATIONS := geometric lightning trial_lightning trial_ray watch_lightning watch_loops watch_tensorboard
integrations: $(VENV)-integrations/.installed
	$(VENV)-integrations/bin/python -m pytest $(INTEGRATIONS:%=tests/integrations/test_%.py)

lint: $(VENV)/.developed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The pages of docs/ as a site in site/. Strict: a link, an anchor or a page that leads nowhere fails it.
docs: $(VENV)/.developed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(VENV)-integrations build dist site *.egg-info deadrelu/measure/*.so

$(VENV)/.installed: pyproject.toml constraints.txt $(shell find deadrelu -name '*.py' -o -name '*.c') | $(BIN)/python
	@echo "Installing deadrelu and the versions of constraints.txt into $(VENV); the first time takes minutes."
	@echo "On Linux PyPI's torch is the CUDA build, several GB. If a CPU will do, stop here and first run:"
	@echo "  $(BIN)/python -m pip install -c constraints.txt torch --index-url https://download.pytorch.org/whl/cpu"
	@$(BIN)/python -m pip install -c constraints.txt . --quiet --disable-pip-version-check
	@touch $@

# Editable, so that the tests see what is edited; it takes the place of the plain install.
$(VENV)/.developed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $(VENV)/.installed $@

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)-integrations/.installed: pyproject.toml constraints.txt $(shell find deadrelu -name '*.py' -o -name '*.c')
	$(PYTHON) -m venv $(VENV)-integrations
	$(VENV)-integrations/bin/python -m pip install -c constraints.txt '.[integrations]'
	touch $@
