"""Coordinate networks x -> y and their exact derivatives (paper, section 3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["operators"])
