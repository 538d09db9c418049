"""Self-supervised audio-visual learning in JAX/Flax."""

import os

# Of what TensorFlow reads at a place under gs://, it fetches as many megabytes; without this 64, where a record has 5.
# It looks when it is loaded, hence here.
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "8")
