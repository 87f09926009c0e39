"""Completion of sounds."""
