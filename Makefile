# Everything runs in .venv, which every target makes when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: help demo test check format types clean fuzz audit chaos gpu

help:
	@echo "make demo    search small cells on the digits images: two workers, two metrics, about a minute"
	@echo "make test    all tests"
	@echo "make check   formatting, lint, types, import contracts, then all tests"
	@echo "make fuzz    100,000 odd inputs to everything that takes any"
	@echo "make chaos   kill, pause and cut off everything while it searches, and hold the database to account"
	@echo "make gpu     compile, check and time the CUDA kernels and the training on this machine's GPU"
	@echo "make audit   look every installed package up among the known vulnerabilities (needs the net)"
	@echo "make format  let ruff format and mend what it can"

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	rm -rf demo.db demo.db-wal demo.db-shm demo.db.wlock demo.db.logs demo.db.checkpoints
	$(BIN)/nas search --name demo --space nas_bench_201 --set space.channels=4 --set space.cells=1 \
	  --data digits --metric error --metric macs --strategy regularized_evolution --set strategy.population=12 \
	  --epochs 4 --trials 40 --workers 2 --seed 0 --storage sqlite:///demo.db

# three at a time, whatever the cores: most of these tests wait for processes, leases and databases
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml nas predictors search_spaces workers
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(MAKE) test

# 100,000 odd inputs, other ones each time; NAS_FUZZ_SEED=... repeats them
fuzz: $(STAMP)
	NAS_FUZZ_CASES=$${NAS_FUZZ_CASES:-100000} NAS_FUZZ_SEED=$${NAS_FUZZ_SEED:-$$(date +%s)} \
	  $(BIN)/python -m pytest tests/fuzz -s

# more than an hour; other moments each time, CHAOS="--seed 7 --only workers" repeats or picks them
chaos: $(STAMP)
	$(BIN)/python -m tests.chaos $(CHAOS)
	NAS_PROOF_STEPS=40000 NAS_PROOF_KILLS=20 NAS_PROOF_CUTS=500 NAS_PROOF_ZOMBIES=1000 $(BIN)/python -m pytest -s \
	  $(patsubst %,tests/nas/store/test_%.py,store_machine planted_bugs kill_points lost_replies zombies clocks races)
	NAS_TERMINATIONS=10 $(BIN)/python -m pytest tests/nas/test_ray_search.py -k terminated

# on a machine with a GPU and its build of torch, named by GPU_PYTHON if that is not in .venv; without a GPU it says so
# and fails
GPU_PYTHON ?= $(BIN)/python
gpu:
	$(GPU_PYTHON) benchmarks/gpu.py $(GPU)

# asks the net about every installed package, so `check` does not do it
audit: $(STAMP)
	$(BIN)/python .ci/audit.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
