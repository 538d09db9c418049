"""Weights to take along: exported, described, and loaded from Python (`cmav.load`)."""
