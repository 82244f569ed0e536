# Two commands need nothing but Python 3.11 and make: `make quickstart` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Two test files run in parallel. A third one would repeat all imports and start one more Ray.
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder -n 2
# Otherwise every process of the tests compiles again what is not compiled yet.
unexport PYTHONDONTWRITEBYTECODE
UNCOMPILED := /(tests|testing|examples|transformers|sympy|mpmath|networkx|nltk|_inductor|_dynamo|_functorch|_export|ao|distributed|onnx|onnxruntime|torchgen|_vendor|llm|hive_metastore|dialects|alembic|api_core|pyasn1_modules|virtualenv|websockets|pip|setuptools|mypy|mypyc|fontTools|lexers|backrefs)/

.PHONY: install quickstart style types quick check test all hosts notebooks docs docs-version package constraints proofs mutants bench loop results label-demo clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev,examples]'
	@# Compiles on all processors (pip uses one), without the code that neither commands nor tests import, or little of it.
	@# Files of another version of Python may fail.
	$(BIN)/python -m compileall -qq -j 0 -x '$(UNCOMPILED)' $(VENV)/lib prefrec_ray || true
	touch $@

quickstart: install
	$(BIN)/prefrec quickstart

style: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python .ci/wording

# In CI without the cache, which takes a fifth of the time to write and is lost.
types: install
	$(BIN)/mypy $(if $(CI),--no-incremental)

# After every change: style, types and the tests without Ray. Types run in parallel: these tests do not fill two cores.
check: style
	$(MAKE) --no-print-directory -j 2 types quick

quick: install
	$(PYTEST) -m 'not ray and not slow and not cluster'

# Before every merge, and in CI: all tests except clusters of several nodes and the slow proofs. Tests with and without Ray
# run together, because each run of pytest imports all test files in two processes.
test: style
	$(MAKE) --no-print-directory -j 2 types all

all: install
	$(PYTEST)

# In CI next to `make test`: clusters of several nodes, one on hosts made from namespaces (as root), and Ray Serve.
hosts: install
	$(BIN)/python -m pytest -m 'cluster and not slow' tests/cluster tests/runs tests/serving

# In CI after `make test`: runs the notebooks of examples/notebooks.
notebooks: install
	$(BIN)/python -m pip install --quiet --editable '.[notebooks]'
	$(BIN)/python -m pytest -m slow tests/test_notebooks.py

# The site in site/, without a warning. Nothing in it needs a network: python3.11 -m http.server --directory site
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# By CI: the site of a version in the branch gh-pages, next to those of other versions. VERSION="0.1.0 latest" also moves
# an alias.
docs-version: install
	$(BIN)/python -m pip install --quiet 'mike>=2.1,<3'
	DOCS_VERSIONS=mike NO_MKDOCS_2_WARNING=1 $(BIN)/mike deploy --update-aliases $(VERSION)

# Wheel and sdist in dist/, each installed and tried outside the checkout, also from an index on this machine.
package:
	.ci/package $(PYTHON) $(TAG)

# By hand, to take newer dependencies: versions for nodes and images.
constraints: install
	$(BIN)/python -m pip install --quiet 'uv>=0.5,<1'
	sed -n '/^#/p' constraints.txt > constraints.new
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --no-annotate --no-header --quiet \
	    --extra serve --extra onnx --extra search --extra mlflow --extra examples >> constraints.new
	mv constraints.new constraints.txt

# By hand; each proof prints its figures. The table of docs/results/verification.md gets their times and results.
proofs: install
	$(BIN)/python -m pytest -m slow -s --junitxml=proofs.xml; status=$$?; .ci/proofs proofs.xml; exit $$status

# By hand: changes the core line by line, to find changes that no test notices (docs/results/verification.md#mutants).
mutants: install
	$(BIN)/python -m pip install --quiet --editable '.[mutants]'
	$(BIN)/mutmut run --max-children 2
	$(BIN)/mutmut results

# About 17 minutes on two cores. D3RLPY=PYTHON, of an environment with d3rlpy, adds d3rlpy.
bench: install
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks

# By hand, two hours per world: days of canaries on simulated platforms. The run of docs/results/loop.md:
# LOOP="--worlds topics --users 2000 --days 12 --harmful"
loop: install
	$(BIN)/python -m pip install --quiet --editable '.[serve]'
	$(BIN)/python -m benchmarks loop bench/loop $(LOOP)

# By hand: lists pages of results that are older than the code.
results: install
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks results

# The labeling page on the data of the quickstart, which are made first if they are missing.
label-demo: install
	test -d quickstart/dataset || test -d label-demo/dataset || { mkdir -p label-demo && \
		sed 's#quickstart/#label-demo/#' prefrec_ray/cli/quickstart.yaml > label-demo/data.yaml && \
		$(BIN)/prefrec simulate label-demo/data.yaml --output label-demo/logs && \
		$(BIN)/prefrec prepare label-demo/data.yaml --output label-demo/dataset; }
	dataset=$$(test -d quickstart/dataset && echo quickstart/dataset || echo label-demo/dataset) && \
		$(BIN)/python examples/label_demo.py $$dataset label-demo/items && \
		$(BIN)/prefrec label $$dataset --store label-demo/store --config tune_configs/label_demo.yaml

clean:
	rm -rf $(VENV) mutants
