"""Preference construction: responses, judges, agreement, style, and text-to-image reformulation."""
