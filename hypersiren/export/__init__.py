"""Trained fields as files for other programs: a web page, graphs."""
