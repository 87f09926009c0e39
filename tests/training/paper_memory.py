"""Run by test_training.py: prints the peak memory in GB of training the paper's set-encoder model at batch 100."""

import resource
from pathlib import Path

import torch

from hypersiren.completion.images.settings import CompletionSettings
from hypersiren.completion.images.task import Completion
from hypersiren.completion.objective import HypernetObjective
from hypersiren.hypernets.model import build
from hypersiren.settings.flags import load_settings
from hypersiren.signals.sets.images import ImageSet
from hypersiren.training.monitor import Monitor
from hypersiren.training.step import TrainingStep


def main() -> None:
    settings = load_settings(CompletionSettings, Path(__file__).parents[2] / "configs/completion/celeba_set.yaml")
    images = ImageSet(torch.randint(0, 256, (100, 32, 32, 3), dtype=torch.uint8), "random")
    few = ImageSet(images.pixels[:4], "few")
    task = Completion(images, few, settings.context, batch_size=100)
    parts = {name: getattr(settings, name).model_dump() for name in ("siren", "encoder", "hypernet")}
    model = build(**parts, channels=3)
    assert sum(p.numel() for p in model.hypernet.parameters()) == 52_436_995
    objective = HypernetObjective(model, task, **settings.loss.model_dump(include={"latent", "weights"}))
    step, monitor = TrainingStep(objective, settings.training), Monitor(None)
    for i in range(2):
        step(i, monitor)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


if __name__ == "__main__":
    main()
