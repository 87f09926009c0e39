#!/usr/bin/env bash
# trimesh.load_mesh and an OBJ whose faces are polygons that are not convex: an extruded letter L of 8 faces.
#
# A good guess: a reader that turns polygons into triangles keeps to the inside of them; the solid has the volume 3 * 2
# and the area 22.
# trimesh 4.6.0 and 5.2.0: each polygon becomes a fan from its first corner, silently. Where the L starts at a corner that
# does not see all others, triangles lie outside of it and turn the other way: the area is 24, not 22. The signed volume
# is right, the mesh is "watertight", and points sampled on it lie in empty space. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/letter.py" <<'PY'
import io
import itertools

import trimesh

flat = [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]  # an L of three unit squares; (1, 1) is its inner corner
vertices = [(x, y, z) for z in (0, 2) for x, y in flat]
lower, upper = [5, 4, 3, 2, 1, 0], [6, 7, 8, 9, 10, 11]
lower, upper = lower[3:] + lower[:3], upper[1:] + upper[:1]
sides = [[i, (i + 1) % 6, 6 + (i + 1) % 6, 6 + i] for i in range(6)]
rows = ["v %d %d %d" % v for v in vertices] + [
    "f " + " ".join(str(i + 1) for i in face) for face in [lower, upper, *sides]
]
mesh = trimesh.load_mesh(io.BytesIO("\n".join(rows).encode()), file_type="obj", process=False)
edges = list(itertools.pairwise([*flat, flat[0]]))
area = 2 * 3 + 2 * sum(abs(a - c) + abs(b - d) for (a, b), (c, d) in edges)
print(f"trimesh {trimesh.__version__}: area {mesh.area:g} of {area}, volume {mesh.volume:g}, watertight {mesh.is_watertight}")
PY
check() {
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "trimesh==$1" "numpy==$2"
  seen="$("$work/$1/bin/python" "$work/letter.py")"
  echo "$seen"
  case "$seen" in
    *"$3"*) ;;
    *)
      echo "expected: $3"
      exit 1
      ;;
  esac
}
check 4.6.0 2.2.6 "area 24 of 22"
check 5.2.0 2.3.5 "area 24 of 22"
