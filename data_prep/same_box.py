"""Writes boxes for clips in which the sound is always at the same place: `cmav/prep/same_box.py` says how."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cmav.prep.same_box", run_name="__main__", alter_sys=True)
