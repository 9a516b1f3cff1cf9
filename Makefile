# Everything that can be done here. `make` alone lists it.
VENV := .venv
PYTHON ?= python3
# Installed when this file is newer than what says what to install.
READY := $(VENV)/.installed
SBOM := sbom.json
ROUNDS ?= 200
EXAMPLES ?= 5000
STEPS ?= 80
# Each core takes tests from the other's share when its own is done.
PYTEST := $(VENV)/bin/python -m pytest -n logical --dist worksteal
SEED := $(or $(SEED),$(shell date +%s))

.DEFAULT_GOAL := help
.PHONY: help setup run test quick races model faults check format bench sbom audit clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Install everything into .venv, exactly as uv.lock says

run: $(READY) ## Start the database and the service on http://127.0.0.1:8000 (Ctrl-C stops both)
	@exec $(VENV)/bin/invitree serve

test: $(READY) check ## Run every check and the whole test suite
	$(PYTEST)

quick: $(READY) ## Run the tests that need no server, browser, fault or race: for every save
	@$(PYTEST) -q -m "not slow"

races: $(READY) ## Run every race 200 times (another number with ROUNDS=1000)
	@ROUNDS=$(ROUNDS) $(PYTEST) tests/races

model: $(READY) ## Hold the service against its model on 5,000 new walks (EXAMPLES=, STEPS=, SEED=)
	@echo "SEED=$(SEED)"
	@EXAMPLES=$(EXAMPLES) STEPS=$(STEPS) SEED=$(SEED) $(PYTEST) tests/model

faults: $(READY) ## Break what can break in full numbers, and print what became of it
	@FAULTS=full $(VENV)/bin/python -m pytest tests/faults

check: $(READY) ## Lint, types and import floors
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(READY) ## Measure how fast it is (needs wrk; more with ARGS="--help")
	@$(VENV)/bin/python -m bench $(ARGS)

format: $(READY) ## Format the code
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

sbom: $(READY) ## Write down what the service is made of, with hashes, as CycloneDX
	@$(VENV)/bin/uv export --locked --no-dev --quiet --format cyclonedx1.5 --preview-features sbom-export \
	  --output-file "$(SBOM)"
	@echo "$(SBOM)"

audit: $(READY) ## Ask whether anything in uv.lock has a known vulnerability (needs a network)
	@$(VENV)/bin/python tools/audit.py $(VENV)/bin/uv

clean: ## Remove what was installed (never the data)
	rm -rf $(VENV)

$(READY): uv.lock pyproject.toml tools/install.py
	@$(PYTHON) tools/install.py $(VENV)
	@touch $@
