"""Asking models: servers and callables, the log of answers, and running many calls within limits and a budget."""
