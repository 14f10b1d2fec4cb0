# Two commands matter: `make run` and `make test`. Both set everything up; the second time they are quick.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ifndef PYTHON
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3.14 python3; do $$p -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $$p && break; done)
endif
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
READY := $(VENV)/.ready
WORKERS ?= 2
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadgroup

.PHONY: help run test test-unit test-node test-kind lint format crds bench image chart lock clean tools

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Start the example shop behind a sidecar on localhost, and print what to try
	@exec $(BIN)/python examples/shop/start.py

test: $(READY) lint tools ## Run every check and test that leaves the machine as it is
	@$(BIN)/python tests/support/system_packages.py redis-server nginx-light
	@$(PYTEST)

test-unit: $(READY) ## Run the tests that need nothing but Python
	@$(PYTEST) tests/unit

test-node: $(READY) ## Run the tests on a real Kubernetes node on this machine (as root; says first what it does)
	@$(BIN)/python tests/support/system_packages.py containerd runc containernetworking-plugins nftables iproute2 busybox-static buildah mmdebstrap
	@$(BIN)/python -m tests.support.cluster build --node || echo "node tests will be skipped; the reason stands above"
	@$(BIN)/pytest tests/node -rs

test-kind: $(READY) ## Run the same tests on kind (needs a Docker engine; kind itself is built if it is missing)
	@PILLION_TEST_NODE=kind $(BIN)/pytest tests/node -rs

lint: $(READY) ## Check format, rules, docstrings, types and layers
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports >/dev/null || $(BIN)/lint-imports

format: $(READY) ## Format the code
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

crds: $(READY) ## Write crds/, docs/reference.md, Argo CD's health checks and the tables of the chart's README
	@$(BIN)/pillion crds --output-dir crds --reference docs/reference.md --argocd operator/deploy/optional/argocd-health.yaml
	@cp operator/deploy/optional/argocd-health.yaml examples/gitops/argocd/health/
	@$(BIN)/pillion crds --output-dir charts/pillion/files/crds
	@$(BIN)/pillion operator --namespace=pillion-system --print-injection-policy > operator/deploy/optional/injection-policy.yaml
	@cp operator/deploy/optional/injection-policy.yaml charts/pillion/files/
	@$(BIN)/python charts/readme.py

bench: $(READY) ## Run the benchmarks; each prints figure, ratio and machine
	@$(BIN)/python tests/support/system_packages.py nginx-light wrk redis-server
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

image: ## Build the image (needs Docker)
	docker build -t pillion:$$(sed -n 's/^VERSION = "\(.*\)"/\1/p' sidecars/src/pillion/version.py) .

chart: $(READY) ## Lint, render and package the chart into dist/
	@$(BIN)/python -m tests.support.cluster build helm
	@helm="$$($(BIN)/python -m tests.support.cluster path helm)"; \
	  "$$helm" lint --strict charts/pillion && "$$helm" template pillion charts/pillion >/dev/null && "$$helm" package charts/pillion --destination dist

lock: $(READY) ## Compile the locks from pyproject.toml
	@bash requirements/compile.sh $(BIN)/uv

tools: $(READY) ## Build the Kubernetes programs of the tests (minutes once, then cached)
	@$(BIN)/python -m tests.support.cluster build || echo "cluster tests will be skipped; the reason stands above"
	@$(BIN)/python -m tests.support.cluster build helm promql || echo "chart tests will be skipped; the reason stands above"

clean: ## Remove what the targets made inside the tree
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .pillion build dist sidecars/src/*.egg-info

$(READY): $(LOCK) requirements/bootstrap.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3-venv is missing: apt-get install python3-venv"; exit 2; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes $(LOCK)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q sidecars/src operator/src
	@touch $@
