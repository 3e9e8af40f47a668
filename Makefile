# Verbs of the project. `make demo` runs the whole pipeline here, `make test` passes the tests.
#
#   TORCH=...    requirement of PyTorch, such as TORCH='torch==2.13.0'; chosen by whether there is an NVIDIA GPU
#   ARGS=...     parameters of the demo, such as ARGS='grpo_iterations=20 seed=1'
#   TEST_PROCESSES=N  tests that run at once, each in a process on one core
#   OVERLAY=...  what `make deploy` applies: local or production
PYTHON ?= python3
TORCH ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo 'torch>=2.6' || echo 'torch==2.13.0')
# Without a GPU, PyTorch's own index of CPU builds saves gigabytes where it can be reached.
TORCH_INDEX ?= $(shell nvidia-smi -L >/dev/null 2>&1 || { curl -fsIm 5 $(CPU_INDEX)/torch/ >/dev/null && echo --extra-index-url $(CPU_INDEX); } 2>/dev/null)
CPU_INDEX = https://download.pytorch.org/whl/cpu
OVERLAY ?= local
IMAGE_TAG ?= 0.1.0
BUILD_ARGS ?=
TEST_PROCESSES ?= 2
BIN = .venv/bin

.PHONY: install demo test lint compile images deploy
install: .venv/installed
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/pip install --quiet $(TORCH_INDEX) '$(TORCH)'
	$(BIN)/pip install --quiet --editable . && touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --editable '.[test]' && touch $@

demo: install
	$(BIN)/python pipelines/full.py run preset=tiny $(ARGS)

test: .venv/installed-test
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

lint: .venv/installed-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

compile: install
	for name in full stages sweep; do $(BIN)/python pipelines/$$name.py compile || exit 1; done

images:
	DOCKER_BUILDKIT=1 docker build $(BUILD_ARGS) --build-arg GIT_COMMIT=$$(git rev-parse HEAD) -t wan-r1-cpu:$(IMAGE_TAG) -f containers/cpu.Containerfile .
	DOCKER_BUILDKIT=1 docker build $(BUILD_ARGS) --build-arg GIT_COMMIT=$$(git rev-parse HEAD) -t wan-r1-gpu:$(IMAGE_TAG) -f containers/gpu.Containerfile .

deploy:
	kubectl apply -k manifests/overlays/$(OVERLAY)
