"""Tasks on shapes: one signed distance function, and its prediction from some points."""
