"""From points on a surface to a watertight mesh, by a signed distance function (paper, section 4.2).

    python train/points_to_mesh.py

It takes about a minute on two CPU cores.
"""

from pathlib import Path

import numpy as np

from hypersiren import SDF, fit, is_watertight, open_cloud, write_mesh

POINTS = "knot"  # your file: .ply, .xyz, .pcd, .npy, ... or a mesh to sample; "knot" is a tube that is made here
STEPS = 400
RESOLUTION = 128  # cells along the longest side of the mesh; `hypersiren mesh` makes finer ones
WIDTH = 128  # of the network
OUT = Path("points_to_mesh")

cloud = open_cloud(POINTS, count=50_000)  # normals are estimated where the file has none
task = SDF(cloud, points=3000, resolution=RESOLUTION)  # arrays will do too: SDF((points, normals))
result = fit(task, steps=STEPS, network={"hidden_features": WIDTH})
print({name: round(value, 3) for name, value in result.metrics.items()})

mesh = task.mesh(result.field)  # in the field's box; None if the field is nowhere zero
mesh = mesh.moved(task.placement.scale, np.array(task.placement.centre))  # in the units of the file
OUT.mkdir(exist_ok=True)
write_mesh(OUT / "mesh.ply", mesh)  # or .obj, .glb
result.plot(OUT / "summary.png")
print(f"{OUT / 'mesh.ply'}: {len(mesh.faces):,} triangles, {'watertight' if is_watertight(mesh) else 'open'}")
