"""Completion of shapes."""
