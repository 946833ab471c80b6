# What one can do here. Each target sets up what it lacks; `ARGS` goes to run.py: make run ARGS="stage=sft seed=1"
PYTHON := $(if $(VIRTUAL_ENV),python,.venv/bin/python)
SETUP := $(if $(VIRTUAL_ENV),python,python3) launchers/setup.py
EXTRAS := hf,litellm,wandb,report,slurm,dev
ARGS ?=
JOBS ?= 2

.PHONY: run test fuzz lint docs bench setup

run:  ## the default run: demos, SFT, RFT, GRPO, evaluations
	@$(SETUP)
	$(PYTHON) run.py $(ARGS)

test:  ## all tests, in JOBS=2 processes; ARGS="tests/report -x" runs a part
	@$(SETUP) --extras $(EXTRAS)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(PYTHON) -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

fuzz:  ## the properties' search at random and longer, before a release; EXAMPLES=N of each
	@$(SETUP) --extras $(EXTRAS)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(PYTHON) -m pytest -m hypothesis --hypothesis-profile=fuzz $(ARGS)

lint:  ## style, imports, types
	@$(SETUP) --extras $(EXTRAS)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

docs:  ## the documentation as a site, in site/
	@$(SETUP) --extras $(EXTRAS)
	$(PYTHON) -m mkdocs build --strict

bench:  ## speed and memory, beside what users would take instead
	@$(SETUP) --extras $(EXTRAS)
	for file in benchmarks/*.py; do OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(PYTHON) $$file || exit 1; done

setup:  ## everything that the other targets need
	@$(SETUP) --extras $(EXTRAS)
