# `make` alone lists what there is. `make run` and `make test` need nothing but Python 3.11 and make.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
PROTOS := $(shell find protos -name '*.proto')
T ?= tests

.DEFAULT_GOAL := help
.PHONY: help setup proto lint typecheck check test run bench token lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

$(VENV)/.dev: requirements/dev.txt pyproject.toml hatch_build.py deploy/local/bootstrap.sh $(PROTOS)
	@deploy/local/bootstrap.sh dev && touch $@

setup: $(VENV)/.dev ## the environment for developing and testing, in .venv

proto: $(VENV)/.dev ## generate the stubs again
	@$(PY) hatch_build.py

lint: setup ## ruff, buf, import rules
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/buf lint
	@$(VENV)/bin/lint-imports --no-cache

typecheck: setup ## mypy, strict
	@$(VENV)/bin/mypy

check: lint typecheck ## everything that needs no server

test: setup ## every check and test
	@$(MAKE) --no-print-directory check
	@$(VENV)/bin/pytest $(T)

lock: ## compile requirements/*.in to hashed *.txt
	@for f in base local dev bench; do $(PY) -m uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-header --no-annotate requirements/$$f.in -o requirements/$$f.txt; done

clean: ## remove what was generated; .data stays
	rm -rf $(VENV) gen .mypy_cache .pytest_cache .ruff_cache
