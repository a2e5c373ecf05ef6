# make pick    install what picking and the monitor need and pick the sample micrographs
# make gpu     the same for an NVIDIA GPU, in an environment of its own: CUDA 12 or 13, as the driver allows
# make rtx     the same for an RTX card, with TensorRT-RTX
# make test    install everything and run the whole test suite
# make check   lint, format, types and import contracts
# make docs    build the documentation site into site/; it opens from the disk
# make pictures  take the pictures of README and docs anew; DATA names the folder of public micrographs
# make clean   forget the virtual environment and what was picked

PYTHON   ?= python3
VENV     ?= .venv
# any torch >= 2.6 will do
TORCH    ?= torch==2.13.0
SAMPLE   ?= sample
DIAMETER ?= 214
OUT      ?= sample_picks
EXTRA    ?= cpu

# The branch of NVIDIA's driver, 0 without one: from 580 on it runs CUDA 13.
DRIVER   := $(shell sed -n 's/.* \([0-9]\{3,\}\)\.[0-9.]* .*/\1/p' /proc/driver/nvidia/version 2>/dev/null | head -n 1)
ON_12    := $(shell test "$(or $(DRIVER),0)" -lt 580 && echo yes)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

# What `pip install` put there without --editable: a copy, which would run in place of what stands here.
COPY := $(if $(wildcard $(VENV)/lib/python3*/site-packages/gtpick_rt/__init__.py),a-copy)

.PHONY: pick gpu rtx test check docs pictures clean a-copy
.NOTPARALLEL:

pick: $(VENV)/.installed-pick
	$(BIN)/gtpick-rt pick $(SAMPLE) --out $(OUT) --diameter $(DIAMETER) --overlays --force
	@echo
	@echo "Picks:"
	@find $(OUT) -name '*_autopick.star' | sort | sed 's/^/  /'
	@echo "Pictures of them:"
	@find $(OUT) -name '*.png' | sort | sed 's/^/  /'

gpu:
	@$(MAKE) --no-print-directory pick VENV=.venv-gpu EXTRA=$(if $(ON_12),cuda12,cuda13)

rtx:
	@$(MAKE) --no-print-directory pick VENV=.venv-rtx EXTRA=cpu,$(if $(ON_12),rtx12,rtx)

# One process more than there are cores, for many tests wait. The long files come first.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $$(($$(nproc) + 1)) \
	    --dist loadscope --no-loadscope-reorder

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open site/index.html"

pictures: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.pictures.take $(if $(DATA),--data $(DATA))

clean:
	rm -rf $(VENV) .venv-gpu .venv-rtx $(OUT) site

# A set is installed once: its stamp is renewed only when pyproject.toml changes, or a copy must give way.
$(VENV)/.installed-pick: pyproject.toml $(COPY) | $(BIN)/python
	@echo "Installing gtpick-rt into $(VENV)"
	@$(PIP) --editable '.[$(EXTRA),monitor]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml $(COPY) | $(BIN)/python
	@echo "Installing what builds the documentation into $(VENV)"
	@$(PIP) --editable '.[docs]'
	@touch $@

# torch comes first and pinned, so that nothing after it chooses another build. From PyPI this is the CUDA build of
# several gigabytes; where a CPU build is to be had, name it: make test TORCH='torch==2.13.0+cpu --index-url ...'
$(VENV)/.installed-dev: pyproject.toml $(COPY) | $(BIN)/python
	@echo "Installing gtpick-rt with all that training and the tests need into $(VENV)"
	@$(PIP) $(TORCH)
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed-pick

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
