"""The synthetic world: videos whose truth is known. It knows nothing of the rest, and nothing knows it."""
