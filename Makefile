# make alone lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/taskloom/v1/*.proto)
STUBS ?= protos
GRPCURL := .tools/bin/grpcurl

.DEFAULT_GOAL := help
.PHONY: help demo test robustness soak bench lint proto format tools clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/installed ## Set up, run pure-pull with 1, 2, 4 and 8 agents in all ways, and compare
	$(BIN)/taskloom experiment run experiments/definitions/pure-pull.yaml --output results/demo

# With the bytecode kept, the many processes that tests start take two thirds of the time. Four at
# once on two cores, for many tests wait for a lease or a process.
# Some call the service by grpcurl, which is made where there is Go, and without it they are skipped.
test: $(VENV)/installed $(if $(shell command -v go || true),$(GRPCURL)) ## Set up, and run all tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist worksteal

robustness: $(VENV)/installed ## Attack a server for 20 minutes and 1,000,000 calls, and check its history
	$(BIN)/python -m tests.robustness --calls 1000000 --minutes 20 --round-calls 50000 --faults 36

soak: $(VENV)/installed ## Let clients come and go for an hour, and see whether the server grows
	$(BIN)/taskloom soak --output results/soak

bench: $(VENV)/installed ## Measure how fast the server is on this machine, into results/bench
	$(BIN)/taskloom load --output results/bench

lint: $(VENV)/installed ## Check protos, code style and types
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); \
	if [ -n "$$tag" ]; then \
	  echo "buf breaking against $$tag"; $(BIN)/buf breaking --against ".git#tag=$$tag"; \
	else \
	  echo "buf breaking: no release tag yet, the contract may move"; \
	fi
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy client server experiments protos/taskloom/__init__.py protos/taskloom/v1/__init__.py tests

proto: $(VENV)/installed ## Generate the stubs anew
	$(BIN)/python -m grpc_tools.protoc -Iprotos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(STUBS) --mypy_out=quiet:$(STUBS) \
	  --grpc_python_out=$(STUBS) --mypy_grpc_out=quiet:$(STUBS) $(PROTOS)

format: $(VENV)/installed ## Bring the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tools: $(GRPCURL) ## Install grpcurl, which some tests use; needs Go

$(GRPCURL):
	GOBIN=$(CURDIR)/.tools/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3

clean: ## Remove what the other targets made
	rm -rf $(VENV) results .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Everything from nothing but Python and make. Versions stand in constraints.txt.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
