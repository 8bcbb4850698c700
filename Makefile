# make demo   dataset, training, pictures and a video, on any machine, into out/demo
# make test   the quick tests (test-slow: minutes on a CPU; test-gpu: needs a CUDA device)
# make test-viewer  the viewer in a headless Chromium, which it sets up where apt can
# make check  style and structure, as CI checks them (format: mend the style)
# make clean  remove what builds, tests and the demo left; .venv and other results stay

PYTHON ?= python3
OUT ?= out/demo
RUN = .venv/bin/python
NEWEST = $$(ls -t $(OUT)/training/*/network-snapshot-*.pkl | head -n 1)
ORIGINALITY = ../shared/tools/originality.py

.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-gpu test-viewer check format clean

demo: $(OUT)/cars.zip
	$(RUN) train.py --cfg=demo --data=$(OUT)/cars.zip --outdir=$(OUT)/training
	$(RUN) gen_samples.py --network=$(NEWEST) --seeds=0-31 --trunc=0.8 --grid=8x4 \
		--grid-views=random --data=$(OUT)/cars.zip --outdir=$(OUT)
	$(RUN) gen_videos.py --network=$(NEWEST) --seeds=0-5 --trunc=0.8 --grid=3x2 \
		--frames=96 --strip=8 --outdir=$(OUT)
	@echo
	@echo "$(OUT)/grid.png   real cars left, cars that the model invented right: compare their shapes,"
	@echo "    wheels and colours; no car of the right half exists in the data"
	@echo "$(OUT)/orbit.mp4  the camera goes around six of them: each stays the same car from all sides,"
	@echo "    though the model has only ever seen single pictures"

$(OUT)/cars.zip: | .venv/.installed
	$(RUN) -m dataset_preprocessing.procedural --dest=$@

# Two processes of one thread each: most tests keep a single core busy, whatever torch is given.
test: .venv/.installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist=loadfile --durations=10

test-slow: .venv/.installed
	$(RUN) -m pytest -q --durations=10 -m slow

test-gpu: .venv/.installed
	$(RUN) -m pytest -q --durations=10 -m gpu

# Chromium is Debian's; Playwright drives it, and brings no browser of its own.
test-viewer: .venv/.installed
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium) \
		>/dev/null 2>&1 || { echo "test-viewer: needs chromium: apt-get install chromium"; exit 1; }
	@$(RUN) -c "import playwright" 2>/dev/null || \
		$(RUN) -m pip install -q --disable-pip-version-check playwright
	$(RUN) -m pytest -q --durations=10 -m browser

check: .venv/.installed
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check
	$(RUN) -m pytest -qq tests/test_tree.py
	@if [ -f $(ORIGINALITY) ]; then $(RUN) $(ORIGINALITY) .; \
	else echo "originality: $(ORIGINALITY) is not here, skipped"; fi

format: .venv/.installed
	$(RUN) -m ruff format
	$(RUN) -m ruff check --fix

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache out/demo
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/.installed: requirements.txt pyproject.toml .ci/setup .ci/no-deps.txt
	@PYTHON=$(PYTHON) sh .ci/setup
	@touch $@
