"""Volumes: read and write."""
