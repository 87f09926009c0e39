"""Tasks on volumes."""
