"""Marching cubes: the triangles between the inside and the outside corners of cubic cells (Lorensen and Cline 1987).

A cell has 8 corners, corner c at (c & 1, c >> 1 & 1, c >> 2 & 1), and 12 edges; a surface crosses the edges whose ends
differ. The table of the 256 cases is derived here, by rules that make the surface a closed one whatever the values are:

    on a face of four crossed edges the inside corners are cut off one by one, a rule that both cells of the face share;
    the cuts on the six faces join to loops; a loop is split into triangles by diagonals that lie in no face of the
    cell, so that a neighbour cannot have the same (the published table has such cases, and holes).

Every edge of the surface then belongs to exactly two triangles, which run along it in opposite directions.

Symbols: M cells, T triangles.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

CORNERS = torch.tensor([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)])
"""(8, 3) where the corners of a cell are."""

_EDGES = [(axis, corner) for axis in range(3) for corner in range(8) if not corner >> axis & 1]

EDGE_AXIS, EDGE_CORNER = torch.tensor(_EDGES).unbind(1)
"""(12,) the axis that an edge runs along, and the corner that it starts from."""


def _rings() -> list[list[int]]:
    """The corners of the faces -x, +x, -y, +y, -z, +z, counterclockwise as seen from outside the cell."""
    rings = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        ring = [0, u, u | v, v]
        rings += [ring[::-1], [corner | 1 << axis for corner in ring]]
    return rings


_RINGS = _rings()

FACES = torch.tensor(_RINGS)
"""(6, 4) the corners of the faces -x, +x, -y, +y, -z, +z."""


def _edge(a: int, b: int) -> int:
    return _EDGES.index(((a ^ b).bit_length() - 1, min(a, b)))


def _loops(case: int) -> list[list[int]]:
    """The closed loops of crossed edges; bit c of `case` says whether corner c is inside."""
    inside = [bool(case >> c & 1) for c in range(8)]
    following = {}
    for ring in _RINGS:
        for i in range(4):
            if inside[ring[i]] and not inside[ring[i - 1]]:
                j = i
                while inside[ring[(j + 1) % 4]]:
                    j += 1
                following[_edge(ring[i - 1], ring[i])] = _edge(ring[j % 4], ring[(j + 1) % 4])
    loops = []
    while following:
        loop = [next(iter(following))]
        while (edge := following.pop(loop[-1])) != loop[0]:
            loop.append(edge)
        loops.append(loop)
    return loops


def _share_a_face(a: int, b: int) -> bool:
    ends = {corner | bit for axis, corner in (_EDGES[a], _EDGES[b]) for bit in (0, 1 << axis)}
    return any(ends <= set(ring) for ring in _RINGS)


def _triangulate(loop: list[int]) -> list[list[int]] | None:
    """Triangles that fill a loop with no diagonal in a face of the cell; None if there is no such way."""
    if len(loop) < 3:
        return []
    for k in range(1, len(loop) - 1):
        parts = loop[: k + 1], loop[k:]
        if any(len(part) > 2 and _share_a_face(part[0], part[-1]) for part in parts):
            continue
        first, second = map(_triangulate, parts)
        if first is not None and second is not None:
            return [*first, [loop[0], loop[k], loop[-1]], *second]
    return None


def _table() -> Tensor:
    """(256, 5, 3) the edges of up to five triangles for each case, -1 where there are fewer."""
    table = torch.full((256, 5, 3), -1)
    for case in range(256):
        triangles = [triangle for loop in _loops(case) for triangle in _triangulate(loop) or []]
        if triangles:
            table[case, : len(triangles)] = torch.tensor(triangles)
    return table


TABLE = _table()


def triangles(inside: Bool[Tensor, "M 8"]) -> tuple[Int[Tensor, " T"], Int[Tensor, "T 3"]]:
    """The triangles of cells, by their corners' states.

    Args:
        inside: Whether each corner is inside.

    Returns:
        (T,) the cell of each triangle, and (T, 3) the edges that its vertices lie on, counterclockwise as seen from
        the outside.

    Example:
        >>> cell, edges = triangles(torch.arange(8)[None] == 0)  # corner 0 is cut off
        >>> cell.tolist(), sorted(EDGE_AXIS[edges[0]].tolist()), EDGE_CORNER[edges[0]].tolist()
        ([0], [0, 1, 2], [0, 0, 0])
    """
    case = (inside << torch.arange(8, device=inside.device)).sum(1)
    edges = TABLE.to(inside.device)[case]
    cell, slot = (edges[..., 0] >= 0).nonzero(as_tuple=True)
    return cell, edges[cell, slot]
