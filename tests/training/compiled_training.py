"""Run by test_training.py: compiled training steps agree with the eager ones, in loss, gradients and weights."""

import torch

from hypersiren import Image, Siren
from hypersiren.completion.images.settings import ContextSampling
from hypersiren.completion.images.task import Completion
from hypersiren.completion.objective import HypernetObjective
from hypersiren.hypernets.model import build
from hypersiren.signals.sets.images import ImageSet
from hypersiren.tasks.settings import Optimisation
from hypersiren.training import compiled as compilation
from hypersiren.training.monitor import Monitor
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.step import TrainingStep


def main() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (20, 16, 16, 3), dtype=torch.uint8)
    images = ImageSet(pixels, "train")
    task = Completion(images, images, ContextSampling(fewest=5, most=60), batch_size=4, target_points=64)
    for encoder in ({"kind": "set", "hidden_features": 32}, {"kind": "conv", "widths": (8, 16)}):
        model = build({"hidden_features": 16}, encoder, {"kind": "full", "hidden_features": 32}, channels=3)
        objective = HypernetObjective(model, task, latent=0.1, weights=100.0)
        compiled = torch.compile(objective, backend="aot_eager")  # traced; of the steps below programs are made
        trained = [p for p in model.parameters() if p.requires_grad]
        for step in range(2):
            batch = task.sample(torch.Generator().manual_seed(step))
            losses = [torch.stack(list(f(batch).values())).sum() for f in (objective, compiled)]
            torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
            eager, fast = (torch.autograd.grad(loss, trained) for loss in losses)
            for a, b in zip(eager, fast, strict=True):
                assert (a - b).norm() <= 1e-3 * a.norm() + 1e-7, ((a - b).norm(), a.norm())
    eager, replayed = (four_steps(compile) for compile in (False, "graphs"))
    for name, values in eager.items():
        torch.testing.assert_close(values, replayed[name], rtol=1e-4, atol=1e-6)
    print("agree")


def four_steps(compile: bool | str) -> dict[str, torch.Tensor]:
    """What they log, and the weights after them. The mode of graphs is torch's own, which captures nothing on a CPU."""
    siren = Siren(2, 1, 16, 2, generator=torch.Generator().manual_seed(0))
    picture = 2 * torch.rand(16, 16, 1, generator=torch.Generator().manual_seed(1)) - 1
    training = Optimisation(steps=4, compile=compile, optimizer="adam")
    step, monitor = TrainingStep(FieldObjective(siren, Image(picture, points=100)), training), Monitor(None)
    assert step.graphs == (compile == "graphs")
    for i in range(4):
        step(i, monitor)
    return {**monitor.collect(), "weights": torch.nn.utils.parameters_to_vector(siren.parameters()).detach()}


if __name__ == "__main__":
    reason = compilation.reason_against_graphs
    compilation.reason_against_graphs = lambda *given: reason(*given, device="cuda")
    main()
