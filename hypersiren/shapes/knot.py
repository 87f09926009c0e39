"""A shape that needs no file, and clouds by file or by that shape's name.

The knot is a tube along a trefoil,

    c(t) = (sin t + 2 sin 2t, cos t - 2 cos 2t, -sin 3t),

points p = c(t) + r n with n any unit vector across the curve, which is the tube's normal there. It is evenly sampled if
t is drawn in proportion to |c'(t)|, and n in proportion to 1 - r (n . k), with k the curvature vector of the curve.

Symbols: N points.
"""

import numpy as np
from jaxtyping import Float

RADIUS = 0.5


def knot(count: int, seed: int = 0) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Random points on a knotted tube, evenly by area, with their normals.

    Example:
        >>> points, normals = knot(100)
        >>> points.shape, np.allclose(np.linalg.norm(normals, axis=1), 1)
        ((100, 3), True)
    """
    generator = np.random.default_rng(seed)
    # More than are needed, each kept by the chance that its share of the area asks for.
    t, angle = generator.uniform(0, 2 * np.pi, (2, 4 * count + 1000))
    s, c = np.sin, np.cos
    place = np.stack([s(t) + 2 * s(2 * t), c(t) - 2 * c(2 * t), -s(3 * t)], 1)
    velocity = np.stack([c(t) + 4 * c(2 * t), -s(t) + 4 * s(2 * t), -3 * c(3 * t)], 1)
    acceleration = np.stack([-s(t) - 8 * s(2 * t), -c(t) + 8 * c(2 * t), 9 * s(3 * t)], 1)
    speed = np.linalg.norm(velocity, axis=1, keepdims=True)
    tangent = velocity / speed
    across = acceleration - (acceleration * tangent).sum(1, keepdims=True) * tangent
    curvature = across / speed**2
    one = np.cross(tangent, [0.36, 0.48, 0.8])
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    normals = np.cos(angle)[:, None] * one + np.sin(angle)[:, None] * np.cross(tangent, one)
    area = speed[:, 0] * (1 - RADIUS * (curvature * normals).sum(1))
    kept = np.flatnonzero(generator.random(len(t)) * area.max() < area)[:count]
    return (place + RADIUS * normals)[kept], normals[kept]
