# Each target sets up what it needs; each line is a command a person could type.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test lint format bench docs picture clean

help:
	@echo "make demo    remove people from a few photographs, and make a report to look at"
	@echo "make test    run all tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   measure the removal job against a plain loop, and SSIM against other libraries"
	@echo "make docs    generate the pages of the settings and records"
	@echo "make picture make the README's picture again"

setup: .venv/ready

# The whole stack in one virtual environment; again only when a requirement changes.
.venv/ready: requirements.txt pyproject.toml
	@echo "setting up .venv (Python packages, about 6 GB with CUDA's; a minute or two on a fast line)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch .venv/ready

demo: .venv/ready
	$(BIN)/python -m tools.demo photographs demo/photos
	$(BIN)/python jobs/remove_objects.py --config configs/demo.yaml
	$(BIN)/python -m inpaint_core.removal.report.command demo/cleaned

test: .venv/ready
	@echo "running the tests (about 40 minutes on 2 cores; most of that are jobs on a real Ray)"
	@$(BIN)/python -m pytest

lint: .venv/ready
	@echo "checking style and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/ready
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/ready
	@$(BIN)/python benchmarks/removal.py
	@$(BIN)/python benchmarks/ssim.py

docs: .venv/ready
	$(BIN)/python -m tools.reference

picture: demo
	$(BIN)/python -m tools.demo picture demo/photos/street/bus.jpg demo/cleaned/street/bus.jpg benchmarks/before-after.jpg

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
