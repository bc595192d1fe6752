# One door: CI and people call the same targets. Needs Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKOV := .venv-checkov/.installed
FN ?= projects
ENV ?= production
TESTS ?= tests
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help run demo test lint lint-code lint-terraform lock bench reset replay-erasures restore-drill preflight cloud-docs import-export bundle image-tree sbom

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(STAMP)  ## Start the whole cloud on this machine (VERBOSE=1 shows every log line)
	@exec $(BIN)/python -m local.supervisor

demo: $(STAMP)  ## Tell the story of the product on a stack of its own, with checks
	@$(BIN)/python -m local.demo

test: lint  ## Lint, then every test
	$(BIN)/python -m pytest -n 3 --dist loadfile $(TESTS)

lint: $(STAMP)  ## Style, types, secrets, dependencies, Terraform, and the rules about the code itself
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-code lint-terraform

lint-code: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive common functions sessions migrations local tools
	@$(BIN)/squawk migrations/*.sql
	@git ls-files -z ':!tests' | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline
	@git ls-files -z tests | xargs -0 $(BIN)/detect-secrets-hook --disable-plugin KeywordDetector
	@$(BIN)/deptry --no-ansi common functions sessions migrations
	@$(BIN)/python -m pytest -qq tests/structure/test_catalog.py tests/structure/test_imports.py tests/structure/test_openapi_document.py
	@$(BIN)/python -m local.spectral

lint-terraform: $(STAMP) $(if $(shell command -v terraform),$(CHECKOV))
	@$(BIN)/python -m tools.terraform.lint
	@$(BIN)/python -m pytest -qq -rfE -n 2 --dist loadfile --ignore=tests/terraform/test_faults.py tests/terraform

lock: $(STAMP)  ## Write the lock files anew from requirements.in, requirements-dev.in and checkov's
	@$(LOCK) requirements.in --output-file requirements.txt
	@$(LOCK) requirements-dev.in --constraint requirements.txt --output-file requirements-dev.txt
	@$(LOCK) tools/terraform/requirements-checkov.in --output-file tools/terraform/requirements-checkov.txt

bench: $(STAMP)  ## Measure load and scale
	$(BIN)/python -m bench.run

reset:  ## Forget the data of the local stack, which must be stopped
	@$(PYTHON) -m local.reset

replay-erasures: $(STAMP)  ## After a restore: erase again whom the ledger of erasures knows (the stack must run)
	@$(BIN)/python -m local.replay

restore-drill: $(STAMP)  ## Lose a database, bring it back to a moment, erase again; measured (docs/restore-drill.md)
	@$(BIN)/python -m local.drill --report docs/restore-drill.md

preflight: $(STAMP)  ## The deployment checklist: make preflight ENV=production [ARGS="--project P --url https://…"]
	@$(BIN)/python -m tools.preflight $(ENV) $(ARGS)

cloud-docs: $(STAMP)  ## Draw terraform/diagram.svg and write the tables of terraform/README.md anew
	@$(BIN)/python -m tools.diagram
	@$(BIN)/python -m tools.readme

import-export: $(STAMP)  ## Move an organization in: make import-export FILE=package.zip [ORGANIZATION=an empty one]
	@$(BIN)/python -m local.import_export "$(FILE)" $(if $(ORGANIZATION),--organization "$(ORGANIZATION)")

bundle: $(STAMP)  ## Build build/<FN>.zip for a deployment from source: make bundle FN=projects
	@$(BIN)/python -m local.bundle $(FN)

image-tree: $(STAMP)  ## Assemble build/image, the file tree of the container, by the Dockerfile's own lines
	@$(BIN)/python -m tools.image.tree

sbom: $(STAMP)  ## Write build/sbom.json, the CycloneDX bill of materials of that tree
	@$(BIN)/python -m tools.image.sbom

$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -qq --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch $@

# checkov brings its own hcl2, so it lives apart; uv installs it in a tenth of pip's time where it finds the packages.
$(CHECKOV): tools/terraform/requirements-checkov.txt | $(STAMP)
	@test -x .venv-checkov/bin/python || $(PYTHON) -m venv .venv-checkov
	@$(BIN)/uv pip install --quiet --no-config --python .venv-checkov/bin/python --require-hashes -r $< 2>/dev/null \
		|| .venv-checkov/bin/python -m pip install --disable-pip-version-check -qq --require-hashes -r $<
	@touch $@
