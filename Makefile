# make demo | make test | make lint: each makes its own virtual environment first (VENV, with PYTHON).
PYTHON ?= python3
VENV ?= .venv
IN := $(VENV)/bin

.PHONY: demo test lint bench clean

demo: $(VENV)/.experiments
	$(IN)/python -m experiments.vae_digits
	$(IN)/python -m experiments.dense_crf_demo --photographs coffee
	$(IN)/python -m experiments.slid_efficientnet

test: $(VENV)/.test
	$(IN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25 $(ARGS)

lint: $(VENV)/.test
	$(IN)/ruff format --check .
	$(IN)/ruff check .
	$(IN)/mypy

bench: $(VENV)/.bench
	$(IN)/python -m benchmarks.vae_step

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "jaxstruct needs Python 3.11 or newer, found: $$($(PYTHON) --version); name another with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(IN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV)
