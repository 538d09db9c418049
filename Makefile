# `make demo` and `make test` each do all of their set-up; they need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO := data/demo
DEMO_VIDEOS := 320
# Held out: one source, one beside an object that moves in silence, and two beside such.
DEMO_SHOWN := FlashWhistle/v_FlashWhistle_g02_c01 HopBell/v_HopBell_g02_c01 KickBuzz/v_KickBuzz_g04_c01
SCENES := data/scenes
SCENES_VIDEOS := 160
ACTIONS := data/actions
ACTIONS_VIDEOS := 400
CMAC := data/cmac
# Of these 129 are held out: the sounds among which each is to be found.
CMAC_VIDEOS := 648
# Held out: one source beside an object that moves in silence, one with another sound from off-screen, and two.
CMAC_SHOWN := FlashSnap/v_FlashSnap_g12_c01 PulseWhistle/v_PulseWhistle_g09_c01 BounceBell/v_BounceBell_g10_c01

QUICK := tests/test_structure.py tests/test_configs.py tests/test_docs.py tests/test_presets.py tests/test_tables.py \
  tests/data tests/offsets tests/world

CMAC_WORLD := --num_sources 1-2 --distractors 0-1 --looks_by_timbre --size 96 --frame_rate 10 --sample_rate 16000 \
  --classes BounceBell,HopDrum,PulseWhistle,KickBuzz,FlashSnap,ShakePluck

.PHONY: demo scenes actions actions-data cmac cmac-data test quick docs lint clean

demo: $(DEMO)/shards/index-validation.npy  ## synthesize videos, build shards, pretrain, show what was learned
	$(BIN)/python -m cmav.main --config=configs/demo.py
	$(BIN)/python -m cmav.localize $(DEMO_SHOWN:%=$(DEMO)/videos/videos/%.mp4) --checkpoint runs/demo \
	  --out runs/demo/localized --method alignment --stride 4 --size 48 --boxes $(DEMO)/videos
	$(BIN)/python -m cmav.report --workdir runs/demo
	@echo "Open runs/demo/report.html in a browser. All scalars: $(BIN)/tensorboard --logdir runs"

scenes: $(SCENES)/shards/index-scenes.npy runs/demo/summary.json  ## where the demo's network finds up to three sources
	$(BIN)/python -m cmav.evaluate --config=configs/demo.py --split=scenes --config.data.dir=$(SCENES)/shards \
	  --config.evals.localization.boxes=$(SCENES)/videos/vggss.json \
	  --config.evals.localization.scenes=$(SCENES)/videos
	$(BIN)/python -m cmav.report --workdir runs/demo

actions: $(ACTIONS)/shards/index-videos.npy runs/demo/summary.json  ## fine-tune the demo's network: accuracy by labels
	$(BIN)/python -m cmav.experiments.run label_budgets

cmac: cmac-data  ## contrast and attention consistency: a page as that of the demo
	$(BIN)/python -m cmav.main --config=configs/cmac_demo.py
	$(BIN)/python -m cmav.evaluate --config=configs/cmac_demo.py --split=offscreen \
	  --config.data.dir=$(CMAC)/offscreen/shards --config.evals.localization.boxes=$(CMAC)/offscreen/vggss.json \
	  --config.evals.localization.scenes=$(CMAC)/offscreen --config.evals.frequencies.scenes=$(CMAC)/offscreen
	$(BIN)/python -m cmav.localize $(CMAC_SHOWN:%=$(CMAC)/videos/videos/%.mp4) --checkpoint runs/cmac_demo \
	  --out runs/cmac_demo/localized --method guided --size 48 --boxes $(CMAC)/videos
	$(BIN)/python -m cmav.report --workdir runs/cmac_demo
	@echo "Open runs/cmac_demo/report.html in a browser. All scalars: $(BIN)/tensorboard --logdir runs"

# Three tests at a time on two cores: much of what they wait for is XLA compiling on one core, and other processes.
test: .venv/installed-test lint  ## lint, then every test
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

quick: .venv/installed-test lint  ## lint, and the tests that need little compiling
	$(BIN)/python -m pytest --numprocesses 2 $(QUICK)

docs: .venv/installed-test  ## the pages, in build/site
	$(BIN)/mkdocs build --site-dir build/site

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

# Other seeds than the demo's: pretraining has seen none of these videos.
$(SCENES)/videos/manifest.csv: | .venv/installed
	$(BIN)/python data_prep/synthesize_videos.py --out $(SCENES)/videos --num_videos $(SCENES_VIDEOS) --seed 2 \
	  --num_sources 1-3 --distractors 0-1 --offscreen_share 0.3

$(SCENES)/shards/index-scenes.npy: $(SCENES)/videos/manifest.csv
	$(BIN)/python data_prep/build_tfrecords.py --videos $(SCENES)/videos/videos --split scenes --out $(SCENES)/shards \
	  --size 48 --frame_rate 10 --sample_rate 8000

$(ACTIONS)/videos/manifest.csv: | .venv/installed
	$(BIN)/python data_prep/synthesize_videos.py --out $(ACTIONS)/videos --num_videos $(ACTIONS_VIDEOS) --seed 1

$(ACTIONS)/shards/index-videos.npy: $(ACTIONS)/videos/manifest.csv
	$(BIN)/python data_prep/build_tfrecords.py --dataset ucf101 --videos $(ACTIONS)/videos/videos --lists $(ACTIONS)/videos \
	  --out $(ACTIONS)/shards --size 48 --frame_rate 10 --sample_rate 8000

# What a thing looks like tells how it sounds; without that only the moments of its sounds would.
$(CMAC)/videos/manifest.csv: | .venv/installed
	$(BIN)/python data_prep/synthesize_videos.py --out $(CMAC)/videos --num_videos $(CMAC_VIDEOS) --seed 5 \
	  --offscreen_share 0.25 $(CMAC_WORLD)

# Held out: in all of these something sounds that is not seen; in half of them beside what is.
$(CMAC)/offscreen/manifest.csv: | .venv/installed
	$(BIN)/python data_prep/synthesize_videos.py --out $(CMAC)/offscreen --num_videos 300 --seed 6 \
	  --offscreen_share 1 $(CMAC_WORLD)

$(CMAC)/shards/index-validation.npy: $(CMAC)/videos/manifest.csv
	$(BIN)/python data_prep/build_tfrecords.py --videos $< --out $(CMAC)/shards --size 48 --frame_rate 10 --sample_rate 8000

$(CMAC)/offscreen/shards/index-offscreen.npy: $(CMAC)/offscreen/manifest.csv
	$(BIN)/python data_prep/build_tfrecords.py --videos $(CMAC)/offscreen/videos --split offscreen \
	  --out $(CMAC)/offscreen/shards --size 48 --frame_rate 10 --sample_rate 8000

cmac-data: $(CMAC)/shards/index-validation.npy $(CMAC)/offscreen/shards/index-offscreen.npy

actions-data: $(ACTIONS)/shards/index-videos.npy

# An install that was cut off leaves no mark, and is done again.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cmav needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:  ## remove the data and runs of the demo, of the scenes, of the actions and of CMAC
	rm -rf $(DEMO) runs/demo $(SCENES) $(ACTIONS) runs/experiments/label_budgets $(CMAC) runs/cmac_demo
