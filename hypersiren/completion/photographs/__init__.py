"""Photographs at their own size."""
