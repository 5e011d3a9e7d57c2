# The packages of Debian and Ubuntu that each extra of pyproject.toml needs beside it.
examples_packages = libegl1 libgl1 libegl-mesa0 libglx-mesa0 libgl1-mesa-dri xvfb
test_packages = $(examples_packages) e2fsprogs gcc libc6-dev libfontconfig1 libglvnd-dev libx11-dev \
	libxcursor1 mesa-utils mount openssl strace util-linux zstd
docs_packages =

PYTHON = python3
PYTEST_ARGS = -n 2
# Further packages of Python's, for the tests that are skipped without them: ALSO=torch
ALSO =
VENV = .venv
APT_UPDATE = apt-get update
APT_INSTALL = apt-get install -y --no-install-recommends

PACKAGED = pyproject.toml $(wildcard README.md LICENSE) \
	$(shell find moderngl_colab -name __pycache__ -prune -o -print)

# Python looks for modules where they are installed, not in the current folder: what runs here is
# the wheel.
export PYTHONSAFEPATH = 1
export DEBIAN_FRONTEND = noninteractive

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test audit gpu docs clean system-examples system-test \
	system-docs

help:
	@echo 'make demo    draw a first triangle and say what drew it'
	@echo 'make test    run every check: ruff, mypy, and the tests against the built wheel'
	@echo 'make audit   ask whether a dependency is known to be vulnerable; make test does it, too'
	@echo 'make gpu     test what is claimed of drivers, where an NVIDIA GPU is; installs nothing'
	@echo 'make docs    build the documentation, in dist/site'
	@echo 'make clean   remove what these made'
	@echo
	@echo 'demo and test install what is missing: into $(VENV), and, where root runs them, packages of'
	@echo 'the system. Another Python: make demo PYTHON=python3.12. One test alone:'
	@echo 'make test PYTEST_ARGS="-k name". Further packages for tests: make test ALSO=torch.'

demo: $(VENV)/examples
	$(VENV)/bin/python examples/first_triangle.py --output first_triangle.png

test: $(VENV)/test
	$(VENV)/bin/python -m ruff check
	$(VENV)/bin/python -m ruff format --check
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

audit: $(VENV)/test
	$(VENV)/bin/python tests/audit.py

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict \
		--config-file docs/site/mkdocs.yml
	@echo dist/site/index.html

gpu:
	env -u PYTHONSAFEPATH $(PYTHON) -m pytest tests/gpu

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis first_triangle.png
	find . -name __pycache__ -prune -exec rm -r {} +

# The wheel, installed with one of its extras.
$(VENV)/examples $(VENV)/test $(VENV)/docs: $(VENV)/%: $(PACKAGED) | system-%
	$(PYTHON) -m venv $(VENV)
	rm -rf dist
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(VENV)/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	$(VENV)/bin/python -m pip install --quiet "$$(echo dist/*.whl)[$*]" $(ALSO)
	touch $@

# Looks first: where everything is there, neither root nor the network is needed.
system-examples system-test system-docs: system-%:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): no such program; name another Python" \
		"by PYTHON=" >&2; exit 1; }
	@missing=$$($(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo $(notdir $(PYTHON))-venv); \
	for package in $($*_packages); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed \
			|| missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then \
		exit 0; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "Packages of the system are missing. As root, run:" >&2; \
		echo "    $(APT_UPDATE) && $(APT_INSTALL)" $$missing >&2; \
		exit 1; \
	fi; \
	set -x; $(APT_UPDATE) && $(APT_INSTALL) $$missing
