#!/usr/bin/env bash
# trimesh.load_mesh and a GLB whose positions are normalized integers (KHR_mesh_quantization, as gltf-transform's
# "quantize" writes it), and one whose positions are sparse (glTF 2.0, section 3.6.2.3, core).
#
# A good guess: positions of type SHORT with "normalized": true are divided by 32767, and sparse values are put in: the
# triangle has the corners (0, 0, 0), (1, 0, 0) and (0, 1, 0) in both files.
# trimesh 4.6.0 and 5.2.0: the first is read 32,767 times too large; of the second, whose values are all sparse, the
# whole mesh is zeros. Neither says a word. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/triangle.py" <<'PY'
import io
import json
import struct

import numpy as np
import trimesh


def read(accessor, views, body, **more):
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 4}]}],
        "accessors": [{"count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0], **accessor}],
        "bufferViews": [{"buffer": 0, **view} for view in views],
        "buffers": [{"byteLength": len(body)}],
        **more,
    }
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    data = b"glTF" + struct.pack("<IIII", 2, 28 + len(text) + len(body), len(text), 0x4E4F534A) + text
    data += struct.pack("<II", len(body), 0x004E4942) + body
    mesh = trimesh.load_mesh(io.BytesIO(data), file_type="glb", process=False)
    return f"{np.abs(mesh.vertices).max():g}"


rows = np.zeros((3, 4), "<i2")
rows[1, 0] = rows[2, 1] = 32767
normalized = read(
    {"bufferView": 0, "componentType": 5122, "normalized": True, "max": [32767, 32767, 0]},
    [{"byteLength": 24, "byteStride": 8, "target": 34962}],
    rows.tobytes(),
    extensionsUsed=["KHR_mesh_quantization"],
    extensionsRequired=["KHR_mesh_quantization"],
)
values = np.array([[1, 0, 0], [0, 1, 0]], "<f4").tobytes()
sparse = {"count": 2, "indices": {"bufferView": 0, "componentType": 5123}, "values": {"bufferView": 1}}
views = [{"byteLength": 4}, {"byteOffset": 4, "byteLength": 24}]
try:
    found = read({"componentType": 5126, "sparse": sparse}, views, np.array([1, 2], "<u2").tobytes() + values)
except Exception as error:
    found = repr(error)
print(f"trimesh {trimesh.__version__}: largest coordinate normalized {normalized}, sparse {found}")
PY
check() {
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "trimesh==$1" "numpy==$2"
  seen="$("$work/$1/bin/python" "$work/triangle.py")"
  echo "$seen"
  case "$seen" in
    *"$3"*) ;;
    *)
      echo "expected: $3"
      exit 1
      ;;
  esac
}
check 4.6.0 2.2.6 "normalized 32767, sparse 0"
check 5.2.0 2.3.5 "normalized 32767, sparse 0"
