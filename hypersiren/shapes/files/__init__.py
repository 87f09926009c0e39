"""Files of points and meshes. Imports no torch."""
