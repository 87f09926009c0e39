"""Sounds: read, write, analyse, draw."""
