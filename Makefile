# make demo      the whole loop on a small world, ends with a report to open in the browser
# make test      the test suite           make lint     style and types
# make faults    the fault tests at their full counts
# make fuzz      the tests with damaged and hostile files at their full counts
# make lerobot   opens our datasets with lerobot, and lerobot's with us
# Each makes its environment first. PYTHON chooses the interpreter (3.11, 3.12 or 3.13).

.PHONY: demo test lint faults fuzz lerobot environment clean
.DEFAULT_GOAL := test

BIN := .venv/bin
# The stamp is named after what decides the environment: while both files are unchanged, there is nothing to do.
STAMP := .venv/made-$(shell cat pyproject.toml constraints.txt | cksum | tr -c '0-9\n' '-')
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(FITS)' 2>/dev/null && { echo $$p; break; }; done)

demo: $(STAMP)
	$(BIN)/retrodict demo

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy scripts/write_docs.py scripts/rerun.py

faults: $(STAMP)
	RETRODICT_FAULTS=full $(BIN)/python -m pytest tests/faults

fuzz: $(STAMP)
	RETRODICT_FAULTS=full $(BIN)/python -m pytest -s tests/fuzz

lerobot: $(STAMP)
	bash tests/clients/lerobot/run.sh

environment: $(STAMP)

$(STAMP):
	@test -n "$(PYTHON)" || { echo "retrodict needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c '$(FITS)' || { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "no virtual environment: on Debian, apt install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[envs,dev]'
	@rm -f .venv/made-*
	@touch $@

clean:
	rm -rf .venv .lerobot-venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
