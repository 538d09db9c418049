"""Builds training shards from videos: `cmav/prep/build_tfrecords.py` says how. `cmav prep` is the same command."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cmav.prep.build_tfrecords", run_name="__main__", alter_sys=True)
