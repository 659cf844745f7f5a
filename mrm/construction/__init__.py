"""Preference construction: judges and text-to-image reformulation."""
