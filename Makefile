# Everything happens in .venv, which is made from the pinned packages once, and again when the pins change.
PYTHON ?= python3
DEEPNETS = .venv/bin/python -m deepnets

# The C library gives large blocks back to the system at every step and asks for them again; kept, a step on a processor
# takes a fifth less for the networks of a hundred million weights. Other systems than Linux with glibc ignore this.
export MALLOC_MMAP_MAX_ = 0
export MALLOC_TRIM_THRESHOLD_ = 8589934592

.PHONY: demo report test lock clean

demo: .venv/ready  ## train the nine networks on handwritten digits and compare them (about eleven minutes)
	$(DEEPNETS) study studies/demo.toml --out runs/demo
	$(DEEPNETS) compare runs/demo
	$(DEEPNETS) report runs/demo --out runs/demo

report: .venv/ready  ## make the pictures and the README's table again from the committed runs
	$(DEEPNETS) report results/demo --out assets --readme README.md

test: .venv/ready  ## lint, types, tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("deepnets needs Python 3.11 to 3.13" if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet -r requirements.lock
	VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --no-deps -e .
	touch $@

lock:  ## pin the newest packages that pyproject.toml allows
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-emit-index-url --no-header \
		--no-annotate --group dev pyproject.toml --output-file requirements.lock

clean:  ## remove what make made
	rm -rf .venv runs
