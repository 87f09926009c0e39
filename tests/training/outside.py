"""Run by test_open.py as a user would: `outside.py train FOLDER`, then `outside.py load FOLDER`. Public names only."""

import sys

import numpy as np
import torch
from torch import nn

import hypersiren as hs


class Slope(hs.FieldTask):
    """Own task on own data: a function from its measured slope, and one value."""

    in_features, out_features, criterion = 1, 1, "error"

    def __init__(self, x, slope):
        self.x, self.slope = torch.tensor(x), torch.tensor(slope)

    def sample(self, generator, progress):
        return torch.randint(len(self.x), (32,), generator=generator)

    def loss(self, field, index):
        slope = hs.operators.gradient(field, self.x[index])[:, 0]
        return {"slope": (slope - self.slope[index]).square().mean(), "start": field(torch.zeros(1, 1)).square().sum()}

    def evaluate(self, field):
        return {"error": (field(self.x) - self.x**2).abs().max().item()}


@hs.savable
class Averages(nn.Module):
    """Own encoder: the mean of what is known of an image, and where it is."""

    def __init__(self, features: int):
        super().__init__()
        self.linear = nn.Linear(3, features)

    def forward(self, context: hs.Context):
        known = torch.cat([context.x, context.y], -1) * context.mask[..., None]
        return self.linear(known.sum(1) / context.mask.sum(1, keepdim=True))


def train(folder: str) -> None:
    x = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
    own_field = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    print(hs.fit(Slope(x, 2 * x), own_field, steps=30, lr=1e-2).metrics)
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    siren = hs.Siren(2, 1, hidden_features=16)
    model = hs.HyperSiren(Averages(8), hs.FullHypernet(siren.shapes, 8, 16), siren)
    hs.save(hs.train(model, hs.Completion(images, batch_size=8), steps=5).model, f"{folder}/model.safetensors")
    np.save(f"{folder}/train.npy", values(model))


def load(folder: str) -> None:
    np.save(f"{folder}/load.npy", values(hs.load(f"{folder}/model.safetensors")))


def values(model):
    context = hs.Context.from_images(torch.linspace(-1, 1, 64).view(1, 8, 8, 1), torch.ones(1, 8, 8, dtype=torch.bool))
    with torch.no_grad():
        return model(context, hs.grid((4, 4))).numpy()


if __name__ == "__main__":
    {"train": train, "load": load}[sys.argv[1]](sys.argv[2])
