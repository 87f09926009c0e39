"""The zero level of a field as triangles, at a cost that grows with the surface and not with the volume."""
