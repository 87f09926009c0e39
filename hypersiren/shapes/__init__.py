"""Points, meshes and level sets: read, write, extract, draw and compare shapes."""
