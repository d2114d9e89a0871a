# Each target sets up what it needs; each line is a command a person could type.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo check test lint format bench docs results picture clean

help:
	@echo "make demo    remove people from a few photographs, and make a report to look at"
	@echo "make check   ruff, mypy and the tests without Ray and S3, before each commit"
	@echo "make test    run all tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   measure the removal job against a plain loop, and SSIM against other libraries"
	@echo "make docs    generate the pages of the settings and records"
	@echo "make results DATA=URI VAL=URI MINUTES=60"
	@echo "             train the models of RESULTS.md for so many minutes each, and write its tables (PLAN=1: only say what and how long)"
	@echo "make picture make the README's picture again"

setup: .venv/ready

# The whole stack in one virtual environment; again only when a requirement changes. Compiled once here, since Ray starts many
# processes that import torch: where Python may write no bytecode, each would compile it again (8 s of CPU instead of 3).
.venv/ready: requirements.txt pyproject.toml
	@echo "setting up .venv (Python packages, about 6 GB with CUDA's; two or three minutes on a fast line)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode -r requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch .venv/ready

demo: .venv/ready
	$(BIN)/python -m tools.demo photographs demo/photos
	$(BIN)/inpaint remove --config configs/demo.yaml
	$(BIN)/inpaint report demo/cleaned

# Where Python may write no bytecode (PYTHONDONTWRITEBYTECODE), each process that a test starts would compile the package again.
COMPILE := $(BIN)/python -m compileall -q inpaint_core tests

# pytest compiles the tests in its own way, and each of its processes again (9 s of CPU) unless the first may write that.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

# Two processes of one thread each: small networks are too small for more threads.
FAST := --ignore=tests/on_ray --ignore=tests/s3 -m "not s3" --numprocesses=2 --dist=worksteal

check: lint
	@echo "running the tests without Ray and S3 (about 3 minutes on 2 cores)"
	@$(COMPILE)
	@OMP_NUM_THREADS=1 $(PYTEST) $(FAST)

test: .venv/ready
	@echo "running all tests (about 15 minutes on 2 cores; most of the time goes to jobs on a real Ray)"
	@$(COMPILE)
	@OMP_NUM_THREADS=1 $(PYTEST) --ignore=tests/on_ray --numprocesses=4 --dist=worksteal
	@$(PYTEST) tests/on_ray -m "not alone" --numprocesses=2 --dist=loadfile --no-loadscope-reorder
	@$(PYTEST) tests/on_ray -m alone

lint: .venv/ready
	@echo "checking style and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --num-workers=2

format: .venv/ready
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/ready
	@$(BIN)/python benchmarks/removal.py
	@$(BIN)/python benchmarks/ssim.py

docs: .venv/ready
	$(BIN)/python -m tools.reference

# Goes on where it was interrupted. DATA and VAL may be patterns ('miniplaces/train-*.tar'); SETTINGS='network.width=64 ...' is given to every training.
results: .venv/ready
	@$(BIN)/python -m tools.results --data '$(DATA)' --validation '$(VAL)' $(if $(MINUTES),--minutes '$(MINUTES)') \
		$(if $(EPOCHS),--epochs '$(EPOCHS)') $(if $(MODELS),--models '$(MODELS)') $(if $(OUTPUT),--output '$(OUTPUT)') \
		$(if $(PLAN),--plan) $(SETTINGS)

# With the job's own defaults: its detector is downloaded once, or WEIGHTS=/path/to/yolov8n-seg.pt names the file.
WEIGHTS ?= yolov8n-seg.pt
picture: .venv/ready
	$(BIN)/python -m tools.demo photographs demo/photos
	$(BIN)/inpaint remove input=demo/photos/street output=demo/picture detector.weights='$(WEIGHTS)' detector.classes=person
	$(BIN)/python -m tools.demo picture demo/photos/street/bus.jpg demo/picture/bus.jpg benchmarks/before-after.jpg

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
