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

# The programs in .venv name its folder, so a checkout that was moved gets them anew; so does one whose Python has gone.
INSTALLED := $(shell if test -x $(BIN)/python; then cat $(STAMP) 2>/dev/null; else echo gone; fi)
ifneq ($(INSTALLED),)
ifneq ($(INSTALLED),$(shell pwd -P))
.PHONY: $(STAMP)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help run demo test unlinted lint lint-code lint-terraform lint-delivery audit reports coverage lock bench reset replay-erasures restore-drill preflight cloud-docs pictures import-export bundle image-tree sbom

##@ Begin

help:  ## Show this list
	@awk -F ':.*## ' '/^##@ / {printf "%s%s\n", n++ ? "\n" : "", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-15s  %s\n", $$1, $$2}' Makefile

run: $(STAMP)  ## Start the whole cloud on this machine, until Ctrl-C (VERBOSE=1 shows every log line)
	@exec $(BIN)/python -m local.supervisor

demo: $(STAMP)  ## Tell the story of the product on a stack of its own, with checks
	@$(BIN)/python -m local.demo

reset:  ## Forget the data of the local stack, which must be stopped
	@$(PYTHON) -m local.reset

##@ Change it

test: lint unlinted  ## Lint, then every test (make test TESTS=tests/projects: some)
# Of tests/terraform all but the seeded faults ran with lint.
test: LINTED := $(if $(filter-out tests,$(TESTS)),,--ignore-glob='*/terraform/test_[!f]*.py')

unlinted: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile $(LINTED) $(TESTS)

lint: $(STAMP)  ## Style, types, secrets, dependencies, Terraform, pipelines, and the rules about the code itself
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-code lint-terraform lint-delivery

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

lint-delivery: $(STAMP)
	@$(BIN)/python -m tools.delivery

audit: $(STAMP)  ## Ask OSV for published weaknesses of every pinned package (needs the network)
	@$(BIN)/python -m tools.delivery.audit

reports: $(STAMP)  ## What SonarQube reads beside the code: build/bandit.json and build/ruff.json
	@mkdir -p build
	@$(BIN)/bandit --quiet --configfile pyproject.toml --exit-zero --format json --output build/bandit.json \
		--recursive common functions sessions migrations
	@$(BIN)/ruff check --quiet --exit-zero --output-format json --output-file build/ruff.json .

coverage: $(STAMP)  ## Run the tests and count lines: build/coverage.xml (Python 3.12 or newer; make coverage TESTS=tests/projects)
	@rm -rf build/coverage && mkdir -p build/coverage
	-$(BIN)/python -m coverage run -m pytest -q $(TESTS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage xml --quiet -o build/coverage.xml
	@$(BIN)/python -m coverage report --format=total

bench: $(STAMP)  ## Measure load and scale
	$(BIN)/python -m bench.run

lock: $(STAMP)  ## Write the lock files anew from requirements.in, requirements-dev.in and checkov's
	@$(LOCK) requirements.in --output-file requirements.txt
	@$(LOCK) requirements-dev.in --constraint requirements.txt --output-file requirements-dev.txt
	@$(LOCK) tools/terraform/requirements-checkov.in --output-file tools/terraform/requirements-checkov.txt

cloud-docs: $(STAMP)  ## Draw terraform/diagram.svg and write the tables of terraform/README.md anew
	@$(BIN)/python -m tools.diagram
	@$(BIN)/python -m tools.readme

pictures: $(STAMP)  ## Take the screenshots of docs/pictures anew (needs a Chromium)
	@$(BIN)/python -m tools.pictures

##@ Look after data

import-export: $(STAMP)  ## Move an organization in: make import-export FILE=package.zip [ORGANIZATION=an empty one]
	@test -n "$(FILE)" || { echo "Which package? make import-export FILE=package.zip" >&2; exit 2; }
	@$(BIN)/python -m local.import_export "$(FILE)" $(if $(ORGANIZATION),--organization "$(ORGANIZATION)")

replay-erasures: $(STAMP)  ## After a restore: erase again whom the ledger of erasures knows (the stack must run)
	@$(BIN)/python -m local.replay

restore-drill: $(STAMP)  ## Lose a database, bring it back to a moment, erase again; measured (docs/restore-drill.md)
	@$(BIN)/python -m local.drill --report docs/restore-drill.md

##@ Ship it

bundle: $(STAMP)  ## Build build/<FN>.zip for a deployment from source: make bundle FN=projects
	@$(BIN)/python -m local.bundle $(FN)

image-tree: $(STAMP)  ## Assemble build/image, the file tree of the container, by the Dockerfile's own lines
	@$(BIN)/python -m tools.image.tree

sbom: $(STAMP)  ## Write build/sbom.json, the CycloneDX bill of materials of that tree
	@$(BIN)/python -m tools.image.sbom

preflight: $(STAMP)  ## The deployment checklist: make preflight ENV=production [ARGS="--project P --url https://…"]
	@$(BIN)/python -m tools.preflight $(ENV) $(ARGS)

$(STAMP): requirements.txt requirements-dev.txt
	@sh local/machine.sh "$(PYTHON)"
	@test ! -s $@ || test "$$(cat $@)" = "$$(pwd -P)" || rm -rf $(VENV)
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing the pinned packages into $(VENV): about 1.1 GB, some minutes."
	@$(BIN)/python -m pip install --disable-pip-version-check -qq --require-hashes -r requirements.txt -r requirements-dev.txt \
		|| { echo "The packages could not be installed. What is there stays; the same command goes on." >&2; exit 1; }
	@pwd -P > $@

# checkov brings its own hcl2, so it lives apart; uv installs it in a tenth of pip's time where it finds the packages.
$(CHECKOV): tools/terraform/requirements-checkov.txt | $(STAMP)
	@test -x .venv-checkov/bin/python || $(PYTHON) -m venv .venv-checkov
	@$(BIN)/uv pip install --quiet --no-config --python .venv-checkov/bin/python --require-hashes -r $< 2>/dev/null \
		|| .venv-checkov/bin/python -m pip install --disable-pip-version-check -qq --require-hashes -r $<
	@touch $@
