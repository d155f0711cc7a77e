# `make` alone lists what there is. `make run` and `make test` need nothing but Python 3.11 to 3.13 and make.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
PROTOS := $(shell find protos -name '*.proto')
T ?= tests
# An environment for developing serves for running, too.
RUNTIME := $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.local)
# Every login shell has a USER; only one given on the command line is meant.
TOKEN_USER := $(if $(filter command line,$(origin USER)),$(USER))
export TOKEN_USER

# Stamps stay where the folder is moved or copied, or Python is upgraded: so the environment itself is asked, too.
ifneq ($(and $(wildcard $(VENV)),$(filter-out help clean,$(MAKECMDGOALS))),)
SET_UP_AGAIN := $(shell $(PY) -I deploy/local/is_set_up.py >/dev/null 2>&1 || echo set-up-again)
endif

.DEFAULT_GOAL := help
.PHONY: set-up-again help setup proto lint typecheck check tools test fuzz run bench token lock clean deploy-tools deploy-check k8s-smoke

help: ## what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

$(VENV)/.%: requirements/%.txt requirements/build.txt requirements/installer.txt pyproject.toml hatch_build.py deploy/local/bootstrap.sh $(PROTOS) $(SET_UP_AGAIN)
	@deploy/local/bootstrap.sh $* >&2 && touch $@

run: $(RUNTIME) ## the whole system on this machine, on PORT (8000); Ctrl-C stops it
	@deploy/local/bootstrap.sh transcribe
	@exec $(PY) -m deploy.local

token: $(RUNTIME) ## a development token: make token USER=<uuid>
	@exec $(PY) -m deploy.local.token "$$TOKEN_USER"

setup: $(VENV)/.dev ## the environment for developing and testing, in .venv

proto: $(VENV)/.dev ## generate the stubs again
	@$(PY) hatch_build.py

# What clients may have already: where that is this very commit, the one before; a shallow clone has none.
PUBLISHED := head=$$(git rev-parse HEAD); main=$$(git rev-parse -q --verify origin/main || echo $$head); \
	[ $$main != $$head ] && echo $$main || git rev-parse -q --verify HEAD~1 || echo $$head

lint: setup ## ruff, buf, import rules
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/buf lint
	@$(VENV)/bin/buf breaking --against ".git#ref=$$($(PUBLISHED))"
	@$(VENV)/bin/lint-imports --no-cache

typecheck: setup ## mypy, strict
	@$(VENV)/bin/mypy

check: lint typecheck ## everything that needs no server

# The last is for the Node.js that playwright carries.
tools:
	@deploy/local/install_tools.sh ffmpeg chromium curl git '/usr/lib/*/libatomic.so.1:libatomic1'

# Two files at a time, in the order of their names: unit tests, which are short, share the end evenly.
TWO_FILES := -n 2 --dist loadfile --no-loadscope-reorder
test: setup ## every check and test
	@# What is fetched waits for others, and the types take one core: at once. lint wants the git of the tools.
	@$(MAKE) -s -j -O tools deploy-tools typecheck
	@$(MAKE) --no-print-directory lint
	@$(VENV)/bin/pytest $(TWO_FILES) --ignore=$(K8S_SMOKE) $(T)

# checkov pins half of PyPI, so its environment is not the code's.
DEPLOY_TOOLS := $(VENV)/deploy-tools
deploy-tools: $(DEPLOY_TOOLS)/.done
$(DEPLOY_TOOLS)/.done: $(VENV)/.dev requirements/deploy.txt
	@rm -rf $(DEPLOY_TOOLS) && $(PY) -m venv --without-pip $(DEPLOY_TOOLS)
	@UV_SYSTEM_CERTS=1 $(PY) -m uv pip install -q --python $(DEPLOY_TOOLS)/bin/python --require-hashes -r requirements/deploy.txt
	@touch $@

deploy-check: setup deploy-tools ## the manifests and the image's recipe, without a cluster; part of make test
	@$(VENV)/bin/pytest -q tests/unit/deploy

K8S_SMOKE := tests/e2e/test_k8s_smoke.py
k8s-smoke: setup deploy-tools ## build the image and run the local overlay's pods; as root, on Debian
	@deploy/local/install_tools.sh ffmpeg buildah podman runc mmdebstrap catatonit iptables /usr/lib/cni/bridge:containernetworking-plugins
	@$(VENV)/bin/pytest $(K8S_SMOKE)

fuzz: setup tools ## ask every published operation 300 things it was not made for (EXAMPLES=n); takes ten minutes
	@EXAMPLES=$(or $(EXAMPLES),300) $(VENV)/bin/pytest tests/e2e/test_published_document.py

# Tuning: ONLY=uploads|appends|reads|seeks|memory|listings|ffmpeg or a row (reads.bulk.cold), REPEAT=n,
# PEERS=s3,reelway; PROFILE=gateway|stream|upload (NATIVE=1, SVG=1) records that process in each row into .data/bench.
bench: $(VENV)/.bench ## measure against S3, nginx, FastAPI and tus (needs npm); writes bench/results.md
	@$(PY) -m bench $(if $(ONLY),--only $(ONLY)) $(if $(REPEAT),--repeat $(REPEAT)) $(if $(PEERS),--peers $(PEERS)) \
		$(if $(PROFILE),--profile $(PROFILE)) $(if $(NATIVE),--native) $(if $(SVG),--svg)

lock: setup ## compile requirements/*.in to hashed *.txt
	@for f in base build installer local transcribe dev bench deploy; do $(PY) -m uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-header --no-annotate requirements/$$f.in -o requirements/$$f.txt; done

clean: ## remove what was generated; .data stays
	rm -rf $(VENV) gen .mypy_cache .pytest_cache .ruff_cache
