# make demo: translate the example pictures.   make test: all checks.   Both set up .venv first if it isn't there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/.installed
	$(BIN)/ugatit translate examples/drawings -o demo-out --overwrite
	$(BIN)/ugatit translate examples/emoji --model flat2clay -o demo-out/emoji --overwrite
	@echo "Before: examples/drawings    After: $(CURDIR)/demo-out"
	@echo "Before: examples/emoji       After: $(CURDIR)/demo-out/emoji"

test: .venv/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# Types are checked meanwhile: that takes a core a minute.
	@$(BIN)/mypy >.venv/mypy.log 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal --durations=10; tests=$$?; \
	wait $$types && exit $$tests; cat .venv/mypy.log; exit 1

clean:
	rm -rf .venv demo-out

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.installed-test: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@ .venv/.installed
