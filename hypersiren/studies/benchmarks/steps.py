"""Speed of one training step of a whole task: jets against double backward, in turns within one run.

The reference differentiates the network by autograd, channel by channel, and for waves every derivative once more,
which a backward pass must then go through. The same loss of the same network at the same points is found here both
ways: `hypersiren benchmark steps`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.jets import Jet
from hypersiren.fields.siren import Siren
from hypersiren.studies.benchmarks.measure import peak_memory, take_turns
from hypersiren.tasks.registry import open_task

TaskName = Literal["sdf", "helmholtz", "wave", "inversion"]
"""Tasks whose loss has derivatives by the coordinates, and networks of any size."""


@dataclass(frozen=True)
class StepTime:
    """One way to a step.

    Attributes:
        seconds: Median over the rounds.
        peak: Bytes that the step's tensors took at most, beside what there was before.
    """

    seconds: float
    peak: int


class DoubleBackward(nn.Module):
    """A network whose jet is found by autograd as the reference does: a gradient of each channel, D of each gradient.

    Example:
        >>> siren, x = Siren(2, 3, 8), torch.rand(5, 2)
        >>> found, right = DoubleBackward(siren).jet(x, second="diagonal"), siren.jet(x, second="diagonal")
        >>> torch.allclose(found.hessian_diagonal, right.hessian_diagonal, rtol=1e-3, atol=1e-3)
        True
    """

    def __init__(self, field: nn.Module):
        super().__init__()
        self.field = field

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        return self.field(x)

    def jet(self, x: Float[Tensor, "N D"], *, second: Literal["diagonal"] | None = None) -> Jet:
        """Values with gradient, and Hessian's diagonal if that is asked for."""
        x = x.detach().requires_grad_()
        y = self.field(x)

        def gradient(value: Tensor) -> Tensor:
            return torch.autograd.grad(value.sum(), x, create_graph=True)[0]

        first = [gradient(channel) for channel in y.unbind(-1)]
        if second is None:
            return Jet(y, torch.stack(first, dim=-2))
        diagonal = [
            torch.stack([gradient(derivative)[:, d] for d, derivative in enumerate(g.unbind(-1))], dim=-1)
            for g in first
        ]
        return Jet(y, torch.stack(first, dim=-2), hessian_diagonal=torch.stack(diagonal, dim=-2))


def step_times(
    name: TaskName,
    *,
    points: int | None = None,
    hidden_features: int = 256,
    hidden_layers: int = 3,
    rounds: int = 5,
    compiled: bool = True,
    device: torch.device | str = "cpu",
) -> dict[str, StepTime]:
    """Time forward and backward of a task's loss: by double backward, by jets, and by jets compiled.

    Args:
        name: The task, with its default signal (inversion: 5 sources; sdf: as many points of the surface as it takes).
        points: Random points of the step; None for `default_points`.
        hidden_features, hidden_layers: The SIREN; by default the paper's.
        rounds: Turns of each way.
        compiled: Whether to compile, too.
        device: Where.
    """
    points = points or default_points(name, device)
    # A larger surface would take longer to open, and no step shorter or longer.
    own: dict[str, dict[str, dict[str, Any]]] = {
        "sdf": {"signal": {"count": max(1000, points)}},
        "inversion": {"loss": {"waves": "network"}},
    }
    task = open_task(name, {"training": {"points": points}, **own.get(name, {})}, device)
    siren = Siren(task.in_features, task.out_features, hidden_features, hidden_layers).to(device)
    batch = task.sample(torch.Generator(device).manual_seed(0), 0.5)

    def loss(field: nn.Module) -> Callable[[], Tensor]:
        return lambda: torch.stack(list(task.loss(field, batch).values())).sum()

    ways = {"double backward": loss(DoubleBackward(siren)), "jets": loss(siren)}
    if compiled:
        ways["jets, compiled"] = torch.compile(ways["jets"])

    def step(way: Callable[[], Tensor]) -> None:
        siren.zero_grad(set_to_none=True)
        way().backward()

    peaks = {key: peak_memory(partial(step, way), torch.device(device)) for key, way in ways.items()}
    seconds = take_turns({key: partial(step, way) for key, way in ways.items()}, rounds=rounds, device=device)
    return {key: StepTime(seconds[key], peaks[key]) for key in ways}


def default_points(name: TaskName, device: torch.device | str = "cpu") -> int:
    """Points of a step that is timed; an inversion's are fewer on a CPU, where double backward takes 20 GB and more.

    Example:
        >>> default_points("inversion"), default_points("inversion", "cuda")
        (2048, 16384)
    """
    if name == "inversion" and torch.device(device).type == "cpu":
        return 2048
    return 20_000 if name == "sdf" else 16_384


def report(times: dict[str, StepTime]) -> str:
    """A table: seconds, how many times as fast as the first way, and megabytes.

    Example:
        >>> print(report({"slow": StepTime(1.0, 2_000_000), "fast": StepTime(0.25, 1_000_000)}))
        slow                 1.000 s    1.0 x       2 MB
        fast                 0.250 s    4.0 x       1 MB
    """
    first = next(iter(times.values())).seconds
    return "\n".join(
        f"{name:18} {way.seconds:7.3f} s {first / way.seconds:6.1f} x {way.peak / 1e6:7.0f} MB"
        for name, way in times.items()
    )
