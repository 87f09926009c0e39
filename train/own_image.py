"""Fit a SIREN to your own image, and draw its gradient and its Laplacian (paper, section 3.1).

    python train/own_image.py

Change the settings below. It takes about a minute on two CPU cores.
"""

from pathlib import Path

import torch

from hypersiren import Image, ImagePanel, draw_gradient, fit, grid, open_picture

PICTURE = "camera"  # your file, such as "photo.png"; or a photograph that scikit-image ships
SIZE = 128  # pixels of its central square; None for all pixels
STEPS = 200
OUT = Path("own_image")

OUT.mkdir(exist_ok=True)
pixels = open_picture(PICTURE, size=SIZE)  # (H, W, C), values in [-1, 1]
result = fit(Image(pixels, points=4096), steps=STEPS)
print({name: round(value, 4) for name, value in result.metrics.items()})

height, width, _ = pixels.shape
with torch.no_grad():  # exact derivatives, in closed form
    jet = result.field.jet(grid((height, width)), second="laplacian")
gradient = jet.gradient.unflatten(0, (height, width))  # (H, W, C, 2): by row and by column
laplacian = jet.laplacian.unflatten(0, (height, width))
laplacian = 0.5 + laplacian / (4 * laplacian.std())  # zero becomes gray

result.plot(OUT / "summary.png")
result.save(OUT / "field.safetensors")  # hypersiren.load reads it
ImagePanel(result.render(4 * height)).write(OUT, "four_times_as_fine")
ImagePanel(draw_gradient(gradient)).write(OUT, "gradient")
ImagePanel(laplacian.clamp(0, 1)).write(OUT, "laplacian")
print(f"pictures and weights are in {OUT}/")
