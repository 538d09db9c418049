"""Self-supervised audio-visual learning in JAX/Flax."""
