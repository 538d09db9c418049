"""Judging a network: metrics, and evaluators that apply them to a split (`cmav.evals.evaluators` lists these)."""
