"""Metrics of preference accuracy."""
