# `make demo` and `make test` each do all of their set-up; they need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO := data/demo
DEMO_VIDEOS := 320

.PHONY: demo test lint clean

demo: $(DEMO)/shards/index-validation.npy  ## synthesize videos, build shards, pretrain, evaluate on held-out videos
	$(BIN)/python -m cmav.main --config=configs/demo.py
	$(BIN)/python -m cmav.evaluate --config=configs/demo.py
	@echo "Look at runs/demo/summary.json and runs/demo/curves.png, or: $(BIN)/tensorboard --logdir runs"

test: .venv/installed-test lint  ## lint, then every test
	$(BIN)/python -m pytest

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

$(DEMO)/videos/manifest.csv: | .venv/installed
	$(BIN)/python data_prep/synthesize_videos.py --out $(DEMO)/videos --num_videos $(DEMO_VIDEOS) --seed 0 \
	  --num_sources 1-2 --distractors 0-1

$(DEMO)/shards/index-validation.npy: $(DEMO)/videos/manifest.csv
	$(BIN)/python data_prep/build_tfrecords.py --videos $< --out $(DEMO)/shards --size 48 --frame_rate 10 --sample_rate 8000

# An install that was cut off leaves no mark, and is done again.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cmav needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:  ## remove the demo's data and runs
	rm -rf $(DEMO) runs/demo
