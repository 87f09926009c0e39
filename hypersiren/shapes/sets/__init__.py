"""Sets of shapes: made solids, folders of meshes, random poses."""
