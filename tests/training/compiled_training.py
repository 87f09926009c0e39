"""Run by test_training.py: one compiled training step agrees with the eager one, loss and gradients."""

import torch

from hypersiren.hypernets.model import build
from hypersiren.signals.sets.images import ImageSet
from hypersiren.tasks.images.completion import Completion
from hypersiren.tasks.images.settings import ContextSampling
from hypersiren.training.objectives import HypernetObjective


def main() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (20, 16, 16, 3), dtype=torch.uint8)
    images = ImageSet(pixels, "train")
    task = Completion(images, images, ContextSampling(fewest=5, most=60), batch_size=4, target_points=64)
    for encoder in ({"kind": "set", "hidden_features": 32}, {"kind": "conv", "widths": (8, 16)}):
        model = build({"hidden_features": 16}, encoder, {"kind": "full", "hidden_features": 32}, channels=3)
        objective = HypernetObjective(model, task, latent=0.1, weights=100.0)
        compiled = torch.compile(objective)
        trained = [p for p in model.parameters() if p.requires_grad]
        for step in range(2):
            batch = task.sample(torch.Generator().manual_seed(step))
            losses = [torch.stack(list(f(batch).values())).sum() for f in (objective, compiled)]
            torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
            eager, fast = (torch.autograd.grad(loss, trained) for loss in losses)
            for a, b in zip(eager, fast, strict=True):
                assert (a - b).norm() <= 1e-3 * a.norm() + 1e-7, ((a - b).norm(), a.norm())
    print("agree")


if __name__ == "__main__":
    main()
