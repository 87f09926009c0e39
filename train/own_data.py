"""Train a hypernetwork on your own images: it looks at some pixels and predicts the SIREN of the whole image.

    python train/own_data.py

It takes a minute or two on two CPU cores.
"""

from pathlib import Path

import numpy as np
import torch
from skimage import data

from hypersiren import (
    Completion,
    Context,
    HyperSiren,
    ImagePanel,
    LastLayerSolve,
    Siren,
    render_image,
    save,
    train,
    unit,
)

COUNT = 300  # images
SIZE = 24  # pixels of a side
STEPS = 50
KNOWN = 0.2  # share of the pixels that is known when the model is tried
OUT = Path("own_data")

# Your images: an array (M, H, W) or (M, H, W, 3) of uint8 or of floats in [0, 1], a list of files or of Pillow images
# of one size, or a torch Dataset. Here random pieces of a photograph.
photo, random = data.astronaut(), np.random.default_rng(0)
corners = random.integers(0, photo.shape[0] - SIZE, (COUNT, 2))
images = np.stack([photo[y : y + SIZE, x : x + SIZE] for y, x in corners])

task = Completion(images)  # every tenth image is held out for validation
model = HyperSiren(None, None, Siren(2, 3, hidden_features=(64, 256), hidden_omega=15.0), LastLayerSolve(256))
model.set_prior(task.prior_signals(copies=1, finer=2))  # mean and covariance of the last layer, from the images
trained = train(model, task, steps=STEPS)
print({name: round(value, 4) for name, value in trained.metrics.items()})  # mean squared errors on [0, 1]

OUT.mkdir(exist_ok=True)
save(trained.model, OUT / "model.safetensors")  # hypersiren.load reads it
truth = task.validation.unit[:6] * 2 - 1
mask = torch.rand(truth.shape[:3], generator=torch.Generator().manual_seed(0)) < KNOWN
with torch.no_grad():
    found = trained.model.predict(Context.from_images(truth, mask).compact())
    finer = render_image(found.field, (4 * SIZE, 4 * SIZE))  # (6, 4 SIZE, 4 SIZE, 3): any resolution
ImagePanel(unit(torch.cat(list(finer), dim=1))).write(OUT, "completed")
ImagePanel(unit(torch.cat(list(truth), dim=1))).write(OUT, "truth")
print(f"model and pictures are in {OUT}/")
