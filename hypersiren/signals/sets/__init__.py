"""Sets of images: sources, decoding, cache."""
