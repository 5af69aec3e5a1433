# Everything happens in .venv, which is made from the pinned packages once, and again when the pins change.
PYTHON ?= python3
DEEPNETS = .venv/bin/python -m deepnets

# What `make study` trains: one of studies/*.toml.
STUDY ?= main

.PHONY: demo study report notebooks paper bench test faults lock clean

demo: .venv/ready  ## train the nine networks on handwritten digits and compare them (four to twelve minutes)
	$(DEEPNETS) study studies/demo.toml --out runs/demo
	$(DEEPNETS) compare runs/demo
	$(DEEPNETS) report runs/demo --out runs/demo

study: .venv/ready  ## train what runs/$(STUDY) lacks of studies/$(STUDY).toml; stop it and start it again at any time
	$(DEEPNETS) study studies/$(STUDY).toml --out runs/$(STUDY)

report: .venv/ready  ## make the tables of results and the pictures of README anew from the committed runs
	.venv/bin/python -m results.make
	.venv/bin/python -m assets.make

notebooks: .venv/ready  ## execute every notebook from the committed runs, in place
	.venv/bin/python notebooks/make.py

paper: .venv/ready  ## build paper/deepnets.pdf, six pages, from the tables of results
	.venv/bin/python -m paper.make
	@for tool in latexmk pdflatex pdffonts; do command -v $$tool > /dev/null || { echo "make paper needs $$tool:" \
		"apt-get install latexmk texlive-latex-recommended texlive-fonts-recommended poppler-utils" >&2; exit 1; }; done
	cd paper && latexmk -silent -pdf -interaction=nonstopmode -halt-on-error -outdir=build main.tex || \
		{ grep -A 2 '^!' build/main.log >&2; exit 1; }
	.venv/bin/python paper/check.py paper/build
	cp paper/build/main.pdf paper/deepnets.pdf

bench: .venv/ready  ## measure training speed (a quarter of an hour; let nothing else run)
	.venv/bin/python benchmarks/bench.py > benchmarks/cpu.json.new
	mv benchmarks/cpu.json.new benchmarks/cpu.json

test: .venv/ready  ## lint, types, tests, and every notebook on a few digits
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest
	DEEPNETS_PROFILE=smoke OMP_NUM_THREADS=1 .venv/bin/python -m pytest --dist loadfile --nbval-lax --nbval-cell-timeout=1200 notebooks

faults: .venv/ready  ## two thousand odd inputs and two hundred kills (half an hour; tests/README.md)
	OMP_NUM_THREADS=1 INPUTS=2000 KILLS=200 SEED=$(or $(SEED),0) .venv/bin/python -m pytest -n auto --dist load tests/test_fuzz.py

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("deepnets needs Python 3.11 to 3.13" if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --compile-bytecode -r requirements.lock
	VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --no-deps -e .
	touch $@

lock:  ## pin the newest packages that pyproject.toml allows
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-emit-index-url --no-header \
		--no-annotate --group dev pyproject.toml --output-file requirements.lock

clean:  ## remove what make made
	rm -rf .venv runs/demo paper/build
