"""What jets save: training steps on derivatives of a SIREN against the usual double backward, in turns within one run.

The usual way, the reference's too, differentiates the network's output by its input with
`autograd.grad(..., create_graph=True)`, once for each channel, and for second derivatives once more for each channel
and coordinate; a backward pass must then go through it all. A jet carries the same derivatives forward, so that one
ordinary backward trains on them, and that can be compiled. A step here ends with the gradients of the weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.jets import Jet
from hypersiren.fields.siren import Siren
from hypersiren.studies.benchmarks.measure import Report, Variant, describe_machine, speed_table
from hypersiren.tasks.registry import open_task

TaskName = Literal["sdf", "helmholtz", "wave", "inversion"]
"""Tasks whose loss has derivatives by the coordinates, and networks of any size."""

USUAL, JETS, COMPILED = "double backward", "jets", "jets, compiled"
"""The ways."""


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

    def jet(
        self, x: Float[Tensor, "N D"], *, first: bool = True, second: Literal["diagonal", "laplacian"] | None = None
    ) -> Jet:
        """Values with gradient, and the Hessian's diagonal or its sum if that is asked for."""
        x = x.detach().requires_grad_()
        y = self.field(x)

        def gradient(value: Tensor) -> Tensor:
            return torch.autograd.grad(value.sum(), x, create_graph=True)[0]

        rows = [gradient(channel) for channel in y.unbind(-1)]
        jet = Jet(y, torch.stack(rows, dim=-2) if first else None)
        if second is None:
            return jet
        columns = [[gradient(part)[:, d] for d, part in enumerate(row.unbind(-1))] for row in rows]
        diagonal = torch.stack([torch.stack(column, dim=-1) for column in columns], dim=-2)
        if second == "laplacian":
            return Jet(y, jet.gradient, laplacian=diagonal.sum(-1))
        return Jet(y, jet.gradient, hessian_diagonal=diagonal)


@dataclass(frozen=True)
class Case:
    """One quantity to be trained on.

    Attributes:
        name: What it is.
        out_features: Channels C of the field; D is 2.
        part: Attribute of the jet that holds it.
        asked: What the jet is asked for.
        fewer: It is measured with so many times fewer points, for the memory that double backward takes.
    """

    name: str
    out_features: int
    part: str
    asked: Mapping[str, Any]
    fewer: int = 1

    def quantity(self, field: Any, x: Float[Tensor, "N D"]) -> Tensor:
        """It, of a `Siren` or of `DoubleBackward`."""
        return getattr(field.jet(x, **self.asked), self.part)


CASES = (
    Case("gradient", 1, "gradient", {}),
    Case("Laplacian", 1, "laplacian", {"first": False, "second": "laplacian"}),
    Case("diagonal, C=2", 2, "hessian_diagonal", {"first": False, "second": "diagonal"}),
    Case("diagonal, C=11, 1/8 of points", 11, "hessian_diagonal", {"first": False, "second": "diagonal"}, 8),
)


def jets_report(
    points: int = 16384,
    width: int = 256,
    hidden_layers: int = 3,
    *,
    rounds: int = 7,
    compiled: bool = True,
    device: torch.device | str = "cpu",
) -> Report:
    """Time steps on the mean square of (a derivative - a target), for each of `CASES`.

    Args:
        points: Points of a step.
        width, hidden_layers: Of the SIREN.
        rounds: Turns of each way; medians are given.
        compiled: Measure compiled jets too.
        device: Where.
    """
    device = torch.device(device)
    losses: dict[str, tuple[Siren, Callable[[Any], Tensor]]] = {}
    for case in CASES:
        torch.manual_seed(0)
        field = Siren(2, case.out_features, width, hidden_layers).to(device)
        x = torch.rand(max(1, points // case.fewer), 2, device=device) * 2 - 1
        target = torch.rand_like(case.quantity(field, x[:1])).expand_as(case.quantity(field, x)).contiguous()
        losses[case.name] = field, partial(_squares, case, x, target)
    title = f"{points:,} points, 2-{'-'.join([str(width)] * (hidden_layers + 1))}-C"
    return _report("jets", title, losses, rounds, compiled, device)


def _squares(case: Case, x: Tensor, target: Tensor, field: Any) -> Tensor:
    return (case.quantity(field, x) - target).square().mean()


def steps_report(
    name: TaskName,
    points: int | None = None,
    width: int = 256,
    hidden_layers: int = 3,
    *,
    rounds: int = 5,
    compiled: bool = True,
    device: torch.device | str = "cpu",
) -> Report:
    """Time forward and backward of a task's loss, at the same points of the same network.

    Args:
        name: The task, with its default signal (inversion: 5 sources; sdf: as many points of the surface as it takes).
        points: Random points of the step; by default 16,384, for sdf 20,000, for an inversion on a CPU 2,048, where
            double backward would take 20 GB and more.
        width, hidden_layers: Of the SIREN; by default the paper's.
        rounds: Turns of each way; medians are given.
        compiled: Measure compiled jets too.
        device: Where.
    """
    device = torch.device(device)
    few = 2048 if name == "inversion" and device.type == "cpu" else 16_384
    points = points or (20_000 if name == "sdf" else few)
    # A larger surface would take longer to open, and no step shorter or longer.
    own: dict[str, dict[str, dict[str, Any]]] = {
        "sdf": {"signal": {"count": max(1000, points)}},
        "inversion": {"loss": {"waves": "network"}},
    }
    task = open_task(name, {"training": {"points": points}, **own.get(name, {})}, device)
    siren = Siren(task.in_features, task.out_features, width, hidden_layers).to(device)
    batch = task.sample(torch.Generator(device).manual_seed(0), 0.5)

    def loss(field: Any) -> Tensor:
        return torch.stack(list(task.loss(field, batch).values())).sum()

    title = f"{points:,} points, {hidden_layers} hidden layers of {width}"
    return _report("steps", title, {name: (siren, loss)}, rounds, compiled, device)


def _report(
    benchmark: str,
    title: str,
    losses: Mapping[str, tuple[Siren, Callable[[Any], Tensor]]],
    rounds: int,
    compiled: bool,
    device: torch.device,
) -> Report:
    machine = describe_machine(device)
    variants: dict[str, Variant] = {}
    against: dict[str, str] = {}
    for name, (siren, loss) in losses.items():
        ways: dict[str, Callable[[], Tensor]] = {
            USUAL: partial(loss, DoubleBackward(siren)),
            JETS: partial(loss, siren),
        }
        if compiled:
            ways[COMPILED] = torch.compile(ways[JETS])
        for way, forward in ways.items():
            variants[f"{name}: {way}"] = Variant(partial(_step, siren, forward))
            against[f"{name}: {way}"] = f"{name}: {USUAL}"
    table = speed_table(f"Training steps, {title}", "steps", variants, against, rounds=rounds, device=device)
    return Report(benchmark, machine, {"rounds": rounds}, [table])


def _step(siren: Siren, forward: Callable[[], Tensor]) -> None:
    siren.zero_grad(set_to_none=True)
    forward().backward()
