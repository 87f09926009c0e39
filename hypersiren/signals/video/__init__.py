"""Videos: read and write."""
