# Every target is complete on a bare machine: Python 3.11, make and git. The first run installs into .venv.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
READY := .venv/.ready
APT_ROOT := $(shell command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && echo yes)

# Some machines set it. Each process would then compile TensorFlow's 2,000 imported files anew: 14 s of CPU for 4.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test slow bench bench-gpu chaos interop audit check-deploy manifests docs lint format lock clean browser

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(READY)  ## train seven networks and ask them over gRPC, REST and a page; ONCE=1 ends after the answers
	@$(BIN)/ladle demo $(if $(ONCE),--once)

test: $(READY) browser  ## the tests, all but the slow ones
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

slow: $(READY)  ## the tests that really train, up to an hour
	@$(BIN)/python -m pytest -q -m slow --timeout 5400

bench: $(READY)  ## servers under load beside others, training beside Keras; QUICK=1 takes some minutes
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick)
	@$(BIN)/python -m benchmarks.training $(if $(QUICK),mlp lenet5 --rounds 1 --output /dev/null)

bench-gpu: $(READY)  ## training and serving on a GPU; without one it says what it would need
	@$(BIN)/python -m benchmarks.gpu $(if $(QUICK),--quick)

# Node, nginx and HAProxy come from Debian, which starts both as services; npm and pip install the clients into build/interop.
interop: $(READY)  ## run clients and proxies written by others against the server
ifeq ($(APT_ROOT),yes)
	@for tool in node npm nginx haproxy curl; do command -v $$tool >/dev/null || echo $$tool; done | grep -q . || exit 0; \
	    echo "installing Debian's nodejs, npm, nginx, haproxy and curl" >&2; apt-get update -qq >/dev/null && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    $$(command -v npm >/dev/null || echo nodejs npm) nginx haproxy curl >/dev/null
endif
	@$(BIN)/python -m pytest -q -m interop

chaos: $(READY)  ## floods, overload, faults and a soak of the model server: twenty minutes, QUICK=1 for two
	@$(BIN)/python -m benchmarks.chaos $(if $(QUICK),--quick)

# As root: it builds the images in clean Debian root file systems, which Debian's debootstrap and buildah make.
check-deploy: $(READY)  ## build and ask the container images, watch them, check chart and manifests
ifneq ($(APT_ROOT),yes)
	@echo "make check-deploy: root and apt-get are needed to build images; run it as root on Debian or Ubuntu" >&2; exit 1
else
	@for tool in buildah debootstrap promtool; do command -v $$tool >/dev/null || echo $$tool; done | grep -q . || exit 0; \
	    echo "installing Debian's buildah, debootstrap and prometheus" >&2; apt-get update -qq >/dev/null && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    buildah debootstrap ca-certificates prometheus >/dev/null
	@$(BIN)/python -m pytest -q -m deploy --timeout 3600
endif

manifests: $(READY)  ## render deploy/kubernetes from the Helm chart
	@$(BIN)/python -m tools.manifests

docs: $(READY)  ## build the site into build/docs; a warning or a broken link fails
	@$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/docs && echo "build/docs/index.html"

lint: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(READY)  ## put the code in its one form
	@$(BIN)/ruff check --fix --exit-zero -q . && $(BIN)/ruff format -q .

LOCK := uv pip compile -q --universal --no-emit-package ladle --generate-hashes --no-emit-index-url pyproject.toml
IMAGE_LOCK := $(LOCK) --python-version 3.11 --constraint requirements.lock

lock: $(READY)  ## resolve requirements.lock, and those of the images, anew from pyproject.toml
	@$(BIN)/$(LOCK) --python-version 3.11 --extra dev -o requirements.lock
	@$(BIN)/$(IMAGE_LOCK) --extra serve --extra cloud --extra otel -o requirements/server.lock
	@$(BIN)/$(IMAGE_LOCK) --extra web --extra otel -o requirements/gateway.lock
	@$(BIN)/$(IMAGE_LOCK) --extra cuda -o requirements/train.lock
	@$(BIN)/$(IMAGE_LOCK:pyproject.toml=) --group compile -o requirements/compile.lock

audit: $(READY)  ## check the locked packages against known holes: floors in the repository, then today's advisories
	@$(BIN)/python -m tools.audit

clean:  ## remove what the targets made, trained models included; downloads stay in the cache
	@rm -rf .venv model_repository runs demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis serving/rest/json/compiled/*.c serving/rest/json/compiled/*.so

$(READY): requirements.lock pyproject.toml $(wildcard serving/rest/json/compiled/*.pyx)
	@echo "installing into .venv (once, about a minute)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

# The browser tests drive Debian's Chromium; where it cannot be installed they are skipped and say so.
browser:
ifeq ($(APT_ROOT),yes)
	@command -v chromedriver >/dev/null || { echo "installing Debian's chromium for the browser tests" >&2; \
	    apt-get update -qq && apt-get install -y -qq chromium chromium-driver wrk nghttp2-client; } >/dev/null || \
	    echo "chromium cannot be installed: the browser tests will be skipped" >&2
endif
