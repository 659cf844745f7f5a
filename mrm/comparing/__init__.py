"""Comparing runs: what MLflow has of them, aligned by their configurations, with intervals and tests."""
