# make install   the package and what training needs, in .venv, at the versions of constraints.txt
# make train     the main recipe on the shipped corpus
# make test      the fast test suite (installs the test tools)
# make test-plain   what precision and rounding touch, as processors with fewer instructions compute it
# make lint      style checks, and types
# make wheel-check    builds the distributions, installs the wheel in a new environment and goes through the quick start
# make docs      the documentation as a site, in site/
# make browser-test   the site and the demo in a headless Chromium, which must be installed
# make benchmark speed and memory, side by side with other implementations

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# PyTorch's processor-only build is "2.13.0+cpu"; where the index does not offer it, the plain one is taken.
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: install train test test-plain test-avx2 test-sse41 lint wheel-check docs browser-test benchmark clean

$(VENV)/bin/pip: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"  # older ones take three times as long to find what fits together
	$(PIP) install --quiet "torch==$(TORCH)+cpu" 2>/dev/null || $(PIP) install --quiet "torch==$(TORCH)"
	touch $@

install: $(VENV)/.installed
$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml
	$(PIP) install --quiet --constraint constraints.txt --editable ".[annotation,chinese,demo,plots,speech,tracking,zstd]"
	touch $@

$(VENV)/.tested: $(VENV)/bin/pip pyproject.toml
	$(PIP) install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@ $(VENV)/.installed

train: $(VENV)/.installed
	$(VENV)/bin/accelerate launch --config_file recipes/accelerate_configs/cpu.yaml recipes/train_localgan.py recipes/smalltalk/localgan.yaml

test: $(VENV)/.tested
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --quiet --durations 15

# As on x86-64 without AVX-512, and with nothing but what every x86-64 has: no bfloat16, and sums in another order.
PRECISION_TESTS := tests/functional tests/models/test_rnn_seq2seq_precision.py tests/models/dbm/test_dbm_precision.py \
	tests/trainers/base/test_precision.py tests/trainers/base/test_trainer_precision.py \
	tests/trainers/adversarial/test_localgan_trainer.py
# One process each: two such rounds run side by side with `make --jobs 2 test-plain`.
test-plain: test-avx2 test-sse41
test-avx2 test-sse41: ROUND = $(VENV)/bin/python -m pytest --quiet -p no:cacheprovider $(PRECISION_TESTS)
test-avx2: $(VENV)/.tested
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(ROUND)
test-sse41: $(VENV)/.tested
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(ROUND)

lint: $(VENV)/.tested
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

wheel-check: $(VENV)/.tested
	.ci/wheel $(VENV)/bin/python

docs: $(VENV)/.tested
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

browser-test: $(VENV)/.tested
	$(VENV)/bin/python -m pytest --quiet -m browser

benchmark: $(VENV)/.tested
	$(VENV)/bin/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist runs site
