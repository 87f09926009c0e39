"""Fit a field, train a hypernetwork, keep and resume their runs."""
