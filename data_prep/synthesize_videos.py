"""Makes videos of a world whose truth is known: `cmav/world/synthesize_videos.py` says how. Or: `cmav synthesize`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cmav.world.synthesize_videos", run_name="__main__", alter_sys=True)
