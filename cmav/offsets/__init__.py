"""By how much sound and picture are apart: a network's logits for many shifts, and what they say."""
