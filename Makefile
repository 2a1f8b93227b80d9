# Needs Python 3.11, 3.12 or 3.13 and make (GNU 3.81 or later), nothing else: the rest goes into .venv.

PORT ?= 3000
STOWAGE_DATA ?= .data
WORKERS ?= 2
ARCH ?= arm64
export PORT STOWAGE_DATA

BIN = .venv/bin
RUN_PACKAGES = requirements.txt infra/requirements.txt
ALL_PACKAGES = $(RUN_PACKAGES) tests/requirements.txt

.DEFAULT_GOAL = help
.PHONY: help run test lint bench cleanup rotate-master-key package deploy clean

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

run: ## Run everything on this machine (PORT=3000, STOWAGE_DATA=.data); Ctrl+C stops it
	@infra/venv.sh $(RUN_PACKAGES)
	@exec $(BIN)/python -m infra.run

test: ## Run all tests (WORKERS=2, TESTS="tests/unit -k name")
	@infra/venv.sh $(ALL_PACKAGES)
	@if [ -x tests/install-packages.sh ]; then tests/install-packages.sh; fi
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

lint: ## Check format, style, types and import rules
	@infra/venv.sh $(ALL_PACKAGES)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict chalicelib app.py infra tools
	$(BIN)/lint-imports

bench: ## Measure; prints a table and writes JSON
	@infra/venv.sh $(ALL_PACKAGES) benchmarks/requirements.txt
	@$(BIN)/python -m benchmarks

cleanup: ## Run the hourly cleanup now, on the run that is up (DRY_RUN=1 only counts) or on a stage (STAGE=prod)
	@infra/venv.sh $(RUN_PACKAGES)
	@$(BIN)/python -m infra.cleanup --data "$(STOWAGE_DATA)" $(if $(STAGE),--stage "$(STAGE)") $(if $(DRY_RUN),--dry-run)

rotate-master-key: ## Replace the master key (STAGE=prod), FORGET=id removes an old one a week later
	@infra/venv.sh $(RUN_PACKAGES)
	@$(BIN)/python -m infra.rotation --data "$(STOWAGE_DATA)" $(if $(STAGE),--stage "$(STAGE)") $(if $(FORGET),--forget "$(FORGET)")

package: ## Build dist/deployment.zip and dist/template.json (ARCH=arm64, x86_64 or host)
	@infra/venv.sh $(RUN_PACKAGES)
	@$(BIN)/python -m infra.package --out dist --arch $(ARCH)

deploy: ## Package and deploy into your AWS account (STAGE=prod, PARAMETERS="--parameter Name=value")
	@if [ -z "$(STAGE)" ]; then echo "stowage: name the stage: make deploy STAGE=prod" >&2; exit 1; fi
	@infra/venv.sh $(RUN_PACKAGES)
	@$(BIN)/python -m infra.deploy --stage "$(STAGE)" --arch $(ARCH) $(PARAMETERS)

clean: ## Remove what was built and installed; data stays
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
