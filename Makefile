# The project's commands. `make` alone lists them.

# To choose the interpreter: make demo PYTHON=python3.12
PYTHON ?=
PIP = -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt
# The compiler of the faster operations, where there is a wheel of it: everything works without.
FAST = .venv/bin/python $(PIP) --only-binary numba,llvmlite -e '.[fast]' 2>/dev/null || \
    echo "(pip finds no wheel of numba for this Python: training takes half as long again)"
# Tests start many processes, each of which would compile the package again if nothing were kept.
TESTS = PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1

.PHONY: help demo types wheel test test-mpi test-ranks examples lessons notebooks test-lessons docs parity campaign planted mutants lint clean
.DELETE_ON_ERROR:

help:
	@echo "make demo         train the default model on the built-in tales, on all cores, and print what it writes (minutes)"
	@echo "make test         run the test suite"
	@echo "make test-mpi     run every case of parallel training on 1, 2, 3, 4 and 8 ranks of MPI"
	@echo "make test-ranks   run every test of parallel training on every number of ranks, as threads and on MPI"
	@echo "make examples     run the examples that train a model, and test what they show"
	@echo "make lessons      open the lessons in Jupyter, as copies of your own in my-lessons/"
	@echo "make docs         build the guides and the API pages in build/docs"
	@echo "make parity       compare with torch and transformers (installs both, in .venv-parity)"
	@echo "make campaign     run the commands with random options for ten minutes, and print what no user should see"
	@echo "make planted      plant mistakes in the source, one at a time, and print those that no test notices"
	@echo "make mutants      change the lessons' solutions by machine, and print the changes that a judge lets pass (half an hour)"
	@echo "make lint         check style and format of the code"
	@echo "make wheel        install the package from a wheel into an empty environment, and use it"
	@echo "make types        check the types of the package, and what an editor shows of it"
	@echo "make notebooks    execute lessons/*.py into lessons/*.ipynb"
	@echo "make test-lessons execute the lessons, and test the notebooks and the exercises"
	@echo "make clean        remove the environments, caches and build/; runs/ stays"

demo: .venv/installed
	@.venv/bin/minimega train --save-dir runs/demo --overwrite --dp auto
	@echo && echo "What it writes:" && echo
	@.venv/bin/minimega generate --model-filename runs/demo

test: .venv/installed-dev
	@$(TESTS) .venv/bin/python -m pytest -n 2 --dist worksteal -m "not lessons and not ranks and not figures"

test-mpi: .venv/installed-dev
	@$(TESTS) .venv/bin/python -m pytest -n 2 --dist worksteal -m ranks tests/mpi/test_ranks.py tests/ranks

test-ranks: .venv/installed-dev
	@$(TESTS) .venv/bin/python -m pytest -n 2 --dist worksteal -m ranks tests/mpi tests/ranks tests/commands/test_train_ranks.py

examples: .venv/installed-dev
	@$(TESTS) .venv/bin/python -m pytest -n 2 --dist worksteal -m figures tests/test_examples.py

# The first lesson that is not done yet. A copy that exists is never overwritten.
lessons: .venv/installed-lessons
	@.venv/bin/minimega learn open

notebooks: .venv/installed-lessons
	@$(TESTS) .venv/bin/python -m minimega.learn.build

test-lessons: .venv/installed-dev .venv/installed-lessons
	@$(TESTS) .venv/bin/python -m pytest -n 2 --dist worksteal tests/lessons

# Every warning is an error: a module that cannot be imported, a reference or a link that leads nowhere.
docs: .venv/installed-docs
	@.venv/bin/python -m mkdocs build --clean
	@echo "open build/docs/index.html"

parity: .venv-parity/installed
	@$(TESTS) .venv-parity/bin/python -m pytest tests/parity tests/commands/test_bench.py

campaign: .venv/installed-dev
	@.venv/bin/python -m tests.campaign --seconds 600

planted: .venv/installed-dev
	@.venv/bin/python -m tests.planted

mutants: .venv/installed-dev
	@$(TESTS) .venv/bin/python -W ignore -m tests.lessons.mutants

wheel: .venv/installed-dev
	@.venv/bin/python -m tests.wheel

types: .venv/installed-types
	@.venv/bin/python -m tests.check_types

lint: .venv/installed-dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

clean:
	rm -rf .venv .venv-parity build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find minimega lessons tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps. One that is older than pyproject.toml or constraints.txt is installed again.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing numpy, matplotlib, an MPI and a few more packages into .venv (a minute or two) ..."
	@.venv/bin/python $(PIP) -e '.[mpi]' 2>/dev/null || { \
	    echo "(pip finds no MPI for this machine: the demo trains on one core)"; .venv/bin/python $(PIP) -e .; }
	@$(FAST)
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing the packages that minimega and its tests need into .venv (a minute or two) ..."
	@.venv/bin/python $(PIP) -e '.[dev,mpi]'
	@$(FAST)
	@.venv/bin/python $(PIP) --only-binary gensim -e '.[vectors]' 2>/dev/null || \
	    echo "(pip finds no wheel of gensim for this Python: the tests that read its files will skip)"
	@touch $@ .venv/installed

.venv/installed-types: .venv/installed-dev
	@echo "installing the type checkers ..."
	@.venv/bin/python $(PIP) -e '.[types]'
	@touch $@

.venv/installed-lessons: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing the packages that minimega and its lessons need, Jupyter among them, into .venv (a minute or two) ..."
	@.venv/bin/python $(PIP) -e '.[lessons,mpi]' 2>/dev/null || { \
	    echo "(pip finds no MPI for this machine: the lessons on ranks need one)"; .venv/bin/python $(PIP) -e '.[lessons]'; }
	@$(FAST)
	@touch $@ .venv/installed

.venv/installed-docs: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing the packages that build the documentation (a minute) ..."
	@.venv/bin/python $(PIP) -e '.[docs]'
	@touch $@

.venv-parity/installed: .venv-parity/bin/python pyproject.toml constraints.txt
	@echo "installing torch and transformers, which the parity tests compare with (several minutes) ..."
	@.venv-parity/bin/python $(PIP) -e '.[dev,parity]'
	@touch $@

# The first interpreter that runs and is new enough. Some names may be shims that run nothing.
.venv/bin/python .venv-parity/bin/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "minimega needs Python 3.11 or newer and found none: install one, or name it with PYTHON=..." >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$found cannot make environments (a separate package on Debian): sudo apt install python3-venv" >&2; \
	    exit 1; \
	fi; \
	echo "making an environment for $$("$$found" --version) in $(@:/bin/python=) ..."; \
	"$$found" -m venv $(@:/bin/python=)
