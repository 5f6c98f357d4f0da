# Every target sets up what it needs in .venv. PIPELINE chooses the experiment, ARGS adds flags:
#   make discover PIPELINE=pipelines/biggan-deep-128.yaml ARGS="--steps 2000"

PIPELINE ?= pipelines/demo.yaml
PYTHON   ?= python3
ARGS     ?=

VENV  := .venv
STAMP := $(VENV)/.installed
# Threads that spin while they wait slow down whatever runs beside them, such as tests beside a training.
export OMP_WAIT_POLICY ?= passive
CLI := $(VENV)/bin/saliency-gan
# One process of tests per core; ARGS="-n 0" runs them in one.
PARALLEL := -n auto --maxprocesses 8 --dist loadscope
INSTALL := $(if $(shell command -v uv),uv pip install,$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check)
INSTALL += $(if $(shell command -v uv),--python $(VENV)/bin/python)

.PHONY: demo student student-more test coverage test-all lint format setup clean help bench docs \
        train-gan discover eigen dissect sweep annotate walk rate mos masks train-saliency train-student adapt evaluate predict export app report
.DEFAULT_GOAL := help

demo: setup  ## the whole pipeline on the bundled generator, without a GPU; ends with a table and a report
	$(CLI) discover --config "$(PIPELINE)" $(ARGS)
	$(CLI) masks --config "$(PIPELINE)" $(ARGS)
	$(CLI) train-saliency --config "$(PIPELINE)" $(ARGS)
	$(CLI) train-student --config "$(PIPELINE)" $(ARGS)
	$(CLI) predict data/samples/images --config "$(PIPELINE)" $(ARGS)
	$(CLI) evaluate --config "$(PIPELINE)" $(ARGS)
	$(CLI) report --config "$(PIPELINE)" $(ARGS)

student: setup  ## how the bundled model was made, all but its last step (data/README.md says with which photos)
	$(CLI) masks --config pipelines/student.yaml $(ARGS)
	$(CLI) train-saliency --config pipelines/student.yaml $(ARGS)
	$(CLI) train-student --config pipelines/student.yaml $(ARGS)
	$(CLI) adapt --config pipelines/student.yaml $(ARGS)
	$(CLI) evaluate --config pipelines/student.yaml $(ARGS)
	$(CLI) report --config pipelines/student.yaml $(ARGS)

student-more: setup  ## the last step, from the model of `make student` on
	$(CLI) adapt --config pipelines/student-more.yaml $(ARGS)
	$(CLI) evaluate --config pipelines/student-more.yaml $(ARGS)
	$(CLI) report --config pipelines/student-more.yaml $(ARGS)

test: setup  ## the fast tests
	$(VENV)/bin/python -m pytest $(PARALLEL) $(ARGS)

coverage: setup  ## which lines the fast tests run, by file
	$(VENV)/bin/python -m pytest --cov=saliency_gan --cov-report=term-missing:skip-covered $(ARGS)

test-all: setup  ## every test, slow ones too, and ten times as many broken files
	SALIENCY_GAN_FUZZ=10 $(VENV)/bin/python -m pytest -m "slow or not slow" $(PARALLEL) $(ARGS)

train-gan discover eigen dissect sweep annotate walk rate mos masks train-saliency train-student adapt evaluate app report: setup
	$(CLI) $@ --config "$(PIPELINE)" $(ARGS)

predict: setup
	$(CLI) predict $(or $(PHOTOS),data/samples/images) --config "$(PIPELINE)" $(ARGS)

export: setup
	$(CLI) export --images data/samples/images --config "$(PIPELINE)" $(ARGS)

# What `make help` says about the targets that share a rule:
## train-gan: trains a generator on your own class folders (ARGS="--images DIR")
## discover: stage 1, latent directions and the background direction
## eigen: what the layers of an EigenGAN hold (PIPELINE=pipelines/eigengan-64.yaml)
## dissect: which units of a generator paint what
## sweep: discover over a grid of settings (ARGS="--over discover.K=16,32")
## annotate: names of directions (ARGS="--direction 17 --name background")
## walk: an animation along a direction (ARGS="--direction 17 --output walk.gif")
## rate: a local page on which people judge directions
## mos: what they answered, counted
## masks: stage 2, pairs of images and masks
## train-saliency: stage 3, a U-Net on those pairs
## train-student: a student that learns from the model's marks of unlabelled photos (ARGS="--images DIR")
## adapt: the model goes on with unlabelled photos of your own (ARGS="--images DIR")
## evaluate: metrics against ground-truth masks
## predict: masks of your own photos (PHOTOS=DIR, or PHOTOS="'my photos'" for a name with spaces)
## export: the saliency model as ONNX
## app: a local page to cut out photos and move along directions
## report: one HTML page about the run

docs: setup  ## the documentation as a website, with the API: site/index.html
	$(INSTALL) -e ".[docs]"
	$(VENV)/bin/mkdocs build $(ARGS)

bench: setup  ## speed, each against a reference in the same run
	$(VENV)/bin/python benchmarks/all.py $(ARGS)

lint: setup  ## ruff, mypy, and the contract that imports run one way
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && $(VENV)/bin/lint-imports --no-logo

format: setup  ## ruff's formatter
	$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .

setup: $(STAMP)  ## .venv with everything, by uv where it is installed, else by pip

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed: make setup PYTHON=python3.12"; exit 2; }
	@if command -v uv > /dev/null; then uv venv --allow-existing --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi
	@$(INSTALL) -e ".[dev]"
	@touch $(STAMP)

clean:  ## removes the virtual environment and caches, never a run
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage

help:  ## this list
	@grep -hE '^([a-z-]+:.*  ## |## [a-z-]+: )' $(MAKEFILE_LIST) | \
	  sed -E 's/^## ([a-z-]+): /\1@/; s/^([a-z-]+):.*  ## /\1@/' | sort | awk -F@ '{printf "  %-16s %s\n", $$1, $$2}'
