# Every verb a person types. Each sets up .venv on first use; `make help` lists them.
PROFILE ?= laptop
export PROFILE HARNESS_DATA HARNESS_HOME HARNESS_WORKERS HARNESS_THREADS HARNESS_GPU_SHARE HARNESS_ONLINE_CLASSIFIER HARNESS_SOLVER MLFLOW_TRACKING_URI RAY_ADDRESS
# Byte code is kept: Ray starts many Python processes, and each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
OPTIONS = --profile $(PROFILE) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CELL),--cell $(CELL))
PLANNING = $(if $(GPU),--gpu $(GPU)) $(if $(GPUS),--gpus $(GPUS)) $(if $(GPUS_PER_RUN),--gpus-per-run $(GPUS_PER_RUN)) \
  $(if $(BUDGET),--budget-gpu-hours $(BUDGET))
HARNESS = .venv/bin/harness

.DEFAULT_GOAL := help
.PHONY: help setup tables figures plan report status ui sync test check bench-loader bench-memory bench-report bench-linear bench-probe docs format lock
.DELETE_ON_ERROR:

help: ## list what can be typed
	@awk -F ':.*## ' '/^[a-z% -]+:.*## / {printf "  make %-27s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: PROFILE SEEDS CELL RAY_ADDRESS MLFLOW_TRACKING_URI HARNESS_DATA HARNESS_HOME HARNESS_WORKERS"

.venv/ready: requirements.lock pyproject.toml cluster/setup.sh
	@bash cluster/setup.sh

setup: .venv/ready ## make .venv, with everything in it

table%: .venv/ready ## run what table5b (or another) is missing at PROFILE, render and print it
	@$(HARNESS) run $@ $(OPTIONS)

figure%: .venv/ready ## run what figure3a (or another) is missing at PROFILE, and draw it
	@$(HARNESS) run $@ $(OPTIONS)

tables: .venv/ready ## all tables and figures, and the page; TABLES="5a table14 figure3b" takes these alone
	@$(HARNESS) run $(or $(TABLES),tables) $(OPTIONS)

figures: .venv/ready ## all figures
	@$(HARNESS) run figures $(OPTIONS)

plan-table% plan-figure%: .venv/ready ## the runs of one table or figure, their state and cost; starts nothing
	@$(HARNESS) plan $(@:plan-%=%) $(OPTIONS) $(PLANNING)

plan: .venv/ready ## what each table takes, and with BUDGET=hours [GPU=h100] [GPUS=64] what that buys; starts nothing
	@$(HARNESS) plan $(TABLES) $(OPTIONS) $(PLANNING)

report-table% report-figure%: .venv/ready ## render one table, or draw one figure, from what is finished
	@$(HARNESS) report $(@:report-%=%) $(OPTIONS)

report: .venv/ready ## render everything from what is finished, with a page to look at [FROM=results.json]
	@$(HARNESS) report $(TABLES) $(OPTIONS) $(if $(FROM),--from $(FROM))

status: .venv/ready ## how far every run is
	@$(HARNESS) status $(TABLES) $(OPTIONS)

sync: .venv/ready ## send every record and spool to MLflow
	@$(HARNESS) sync

ui: .venv/ready ## MLflow's own page on the results, at http://127.0.0.1:5000
	@MLFLOW_BACKEND_STORE_URI="$${MLFLOW_TRACKING_URI:-sqlite:///$${HARNESS_HOME:-$(CURDIR)/.harness}/mlflow.db}" \
	  .venv/bin/mlflow ui --host 127.0.0.1

.venv/test_tools: .venv/ready cluster/test_tools.sh
	@bash cluster/test_tools.sh

test: .venv/ready .venv/test_tools ## the tests
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest

check: .venv/ready ## lint, types, import contracts, known holes in the locked packages
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/python cluster/audit.py

.venv/bench/ready: .venv/ready bench/requirements.txt
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --target .venv/bench --no-deps --require-hashes \
	  -r bench/requirements.txt
	@touch $@

bench-loader: .venv/bench/ready ## the loader against its peers: SAMPLE=a parquet of JPEGs [JSON=FILE]
	@.venv/bin/python bench/loader.py $(if $(SAMPLE),$(SAMPLE),$(error name a parquet of JPEGs: SAMPLE=FILE)) \
	  $(if $(JSON),--json $(JSON))

bench-memory: .venv/ready ## whether memory stays flat over five epochs of 100,000 images
	@.venv/bin/python bench/memory.py

bench-report: .venv/ready ## how long reports take over 10,000 runs: HOME_OF_RUNS=a folder for them
	@.venv/bin/python bench/report.py --strict $(if $(HOME_OF_RUNS),--home $(HOME_OF_RUNS))

bench-linear: .venv/ready ## what five learning rates of a linear evaluation cost beside one, and two protocols together
	@.venv/bin/python bench/linear.py --strict

bench-probe: .venv/ready ## transfer's logistic regressions against scikit-learn's [CIFAR=a parquet of CIFAR-10] [JSON=FILE]
	@.venv/bin/python bench/probe.py --strict --table $(if $(CIFAR),--cifar $(CIFAR)) $(if $(JSON),--json $(JSON))

docs: .venv/ready ## write the generated parts of docs/deviations.md anew
	@.venv/bin/python -m harness.reporting.deviations

format: .venv/ready ## put the code into ruff's form
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

lock: .venv/ready ## write requirements.lock anew from pyproject.toml
	@.venv/bin/uv pip compile pyproject.toml --extra data --extra ffcv --extra cluster --extra tracking --extra postgres \
	  --extra dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --output-file requirements.lock
