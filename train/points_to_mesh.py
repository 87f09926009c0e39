"""From points on a surface to a watertight mesh, by a signed distance function (paper, section 4.2).

    python train/points_to_mesh.py

It takes about two minutes on two CPU cores.
"""

from pathlib import Path

import numpy as np

from hypersiren import SDF, fit
from hypersiren.shapes.cloud import open_cloud
from hypersiren.shapes.files.mesh import write_mesh
from hypersiren.shapes.mesh import is_watertight
from hypersiren.shapes.surface import surface

POINTS = "knot"  # your file: .ply, .xyz, .pcd, .npy, ... or a mesh to sample; "knot" is a tube that is made here
STEPS = 400
RESOLUTION = 128  # cells along the longest side of the mesh
WIDTH = 128  # of the network
OUT = Path("points_to_mesh")

cloud = open_cloud(POINTS, count=50_000)  # normals are estimated where the file has none
task = SDF(cloud, points=3000)  # arrays will do too: SDF((points, normals))
result = fit(task, steps=STEPS, network={"hidden_features": WIDTH})
print({name: round(value, 3) for name, value in result.metrics.items()})

place = task.placement
mesh = surface(result.field, place, RESOLUTION).mesh.moved(place.scale, np.array(place.centre))  # in the file's units
OUT.mkdir(exist_ok=True)
write_mesh(OUT / "mesh.ply", mesh)  # or .obj, .glb
result.plot(OUT / "summary.png")
print(f"{OUT / 'mesh.ply'}: {len(mesh.faces):,} triangles, {'watertight' if is_watertight(mesh) else 'open'}")
