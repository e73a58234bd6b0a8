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
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done
	@echo "== benchmarks/radiomics.py"
	@if [ -n "$$IDX_REAL_DATA" ]; then $(BIN)/python benchmarks/radiomics.py; else echo "IDX_REAL_DATA names no folder of images: not run"; fi

# tiatoolbox caps some thirty packages and needs a torch of its own, so it lives in its own environment.
TIA := .venv-tiatoolbox
TIA_READY := $(TIA)/.ready
$(TIA_READY): pyproject.toml
	$(PYTHON) -m venv $(TIA)
	$(TIA)/bin/python -m pip install --quiet --upgrade pip
	$(TIA)/bin/python -m pip install --quiet torch==2.14.1 torchvision==0.29.1
	$(TIA)/bin/python -m pip install --quiet --no-deps tiatoolbox==2.1.3
	$(TIA)/bin/python -m pip install --quiet numpy scipy pandas scikit-learn scikit-image pydicom SimpleITK openslide-python openslide-bin \
		tifffile imagecodecs "zarr>=3" dask matplotlib tqdm shapely opencv-python-headless pyyaml click requests joblib umap-learn defusedxml \
		flask flask-cors psutil wsidicom glymur bokeh aiohttp s3fs albumentations timm transformers huggingface_hub
	$(TIA)/bin/python -m pip install --quiet -e '.[test]'
	@touch $(TIA_READY)

test-tiatoolbox: $(TIA_READY)
	$(TIA)/bin/python -m pytest tests/peer_tiatoolbox

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(TIA) demo-output
