"""Helmholtz and wave equations, and their reference solutions (paper, section 4.3)."""
