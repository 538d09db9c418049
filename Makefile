# `make demo` and `make test` each do all of their set-up; they need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO := data/demo
DEMO_VIDEOS := 320
# Held out: one source, one beside an object that moves in silence, and two beside such.
DEMO_SHOWN := FlashWhistle/v_FlashWhistle_g02_c01 HopBell/v_HopBell_g02_c01 KickBuzz/v_KickBuzz_g04_c01
ACTIONS := data/actions
ACTIONS_VIDEOS := 400

.PHONY: demo actions test lint clean

demo: $(DEMO)/shards/index-validation.npy  ## synthesize videos, build shards, pretrain, show what was learned
	$(BIN)/python -m cmav.main --config=configs/demo.py
	$(BIN)/python -m cmav.localize $(DEMO_SHOWN:%=$(DEMO)/videos/videos/%.mp4) --checkpoint runs/demo \
	  --out runs/demo/localized --method alignment --stride 4 --size 48 --boxes $(DEMO)/videos/vggss.json
	$(BIN)/python -m cmav.report --workdir runs/demo
	@echo "Open runs/demo/report.html in a browser. All scalars: $(BIN)/tensorboard --logdir runs"

actions: $(ACTIONS)/shards/index-videos.npy runs/demo/summary.json  ## fine-tune the demo's network: accuracy by labels
	$(BIN)/python -m cmav.experiments.label_budgets --config=configs/finetune_world.py --config.init.checkpoint=runs/demo

# Two files of tests at a time: most of what they wait for is XLA compiling on one core.
test: .venv/installed-test lint  ## lint, then every test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

$(DEMO)/videos/manifest.csv: | .venv/installed
	$(BIN)/python data_prep/synthesize_videos.py --out $(DEMO)/videos --num_videos $(DEMO_VIDEOS) --seed 0 \
	  --num_sources 1-2 --distractors 0-1

$(DEMO)/shards/index-validation.npy: $(DEMO)/videos/manifest.csv
	$(BIN)/python data_prep/build_tfrecords.py --videos $< --out $(DEMO)/shards --size 48 --frame_rate 10 --sample_rate 8000

runs/demo/summary.json: | $(DEMO)/shards/index-validation.npy
	$(BIN)/python -m cmav.main --config=configs/demo.py

# Another seed than the demo's: pretraining has seen none of these videos.
$(ACTIONS)/videos/manifest.csv: | .venv/installed
	$(BIN)/python data_prep/synthesize_videos.py --out $(ACTIONS)/videos --num_videos $(ACTIONS_VIDEOS) --seed 1

$(ACTIONS)/shards/index-videos.npy: $(ACTIONS)/videos/manifest.csv
	$(BIN)/python data_prep/build_tfrecords.py --dataset ucf101 --videos $(ACTIONS)/videos/videos --lists $(ACTIONS)/videos \
	  --out $(ACTIONS)/shards --size 48 --frame_rate 10 --sample_rate 8000

# An install that was cut off leaves no mark, and is done again.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cmav needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:  ## remove the data and runs of the demo and of the actions
	rm -rf $(DEMO) runs/demo $(ACTIONS) runs/label_budgets
