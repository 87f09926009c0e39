"""What jets save: training steps on derivatives of a SIREN, against the usual double backward, in one run.

The usual way differentiates the network's output by its input with `autograd.grad(..., create_graph=True)`, once per
channel, and once more per channel and coordinate for second derivatives, then calls `backward`. A jet carries the same
derivatives forward, so that one ordinary backward trains on them, and that can be compiled. All steps end with the
gradients of the weights of the mean square of (what is supervised - a target); the optimiser is left out.

Times and peak memory are those of `hypersiren.studies.benchmarks.measure`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.siren import Siren
from hypersiren.studies.benchmarks.measure import Step, peak_memory, take_turns


@dataclass(frozen=True)
class Case:
    """One quantity to be trained on, in both ways.

    Attributes:
        name: What it is.
        out_features: Channels C of the field; D is 2.
        usual: (field, x) -> the quantity, by autograd.
        jet: (field, x) -> the same, by the jet.
        fewer: It is measured with so many times fewer points, for the memory that the usual way takes.
    """

    name: str
    out_features: int
    usual: Callable[[Siren, Tensor], Tensor]
    jet: Callable[[Siren, Tensor], Tensor]
    fewer: int = 1


@dataclass(frozen=True)
class JetTable:
    """Seconds a step and peak memory.

    Attributes:
        seconds: Case -> variant ("usual", "jet", "compiled") -> median seconds of a step.
        memory: Case -> variant -> bytes.
        about: Points, width and device.
    """

    seconds: dict[str, dict[str, float]]
    memory: dict[str, dict[str, float]]
    about: str

    def ratio(self, case: str, variant: str = "compiled") -> float:
        """How many times faster than the usual way."""
        return self.seconds[case]["usual"] / self.seconds[case][variant]

    def __str__(self) -> str:
        head = f"{'':28}{'double backward':>22}{'jet':>22}{'jet, compiled':>22}"
        lines = [self.about, head]
        for case, row in self.seconds.items():
            cells = [f"{1e3 * t:8.0f} ms {self.memory[case][v] / 1e6:6.0f} MB" for v, t in row.items()]
            ratios = ["", *(f" {self.ratio(case, v):4.1f}x" for v in row if v != "usual")]
            lines.append(f"{case:28}" + "".join(f"{c}{r}".rjust(22) for c, r in zip(cells, ratios, strict=True)))
        return "\n".join(lines)


def jet_table(
    points: int = 16384,
    width: int = 256,
    hidden_layers: int = 3,
    rounds: int = 7,
    device: torch.device | str = "cpu",
    compiled: bool = True,
) -> JetTable:
    """Measure all cases.

    Args:
        points: Points of a step.
        width, hidden_layers: Of the SIREN.
        rounds: Rounds whose median is taken.
        device: Where.
        compiled: Measure compiled jets too.
    """
    seconds: dict[str, dict[str, float]] = {}
    memory: dict[str, dict[str, float]] = {}
    for case in CASES:
        torch.manual_seed(0)
        field = Siren(2, case.out_features, width, hidden_layers).to(device)
        x = torch.rand(max(1, points // case.fewer), 2, device=device) * 2 - 1
        target = torch.rand_like(case.jet(field, x[:1])).expand_as(case.jet(field, x)).contiguous()
        steps: dict[str, Step] = {
            "usual": _step(case.usual, field, x.clone().requires_grad_(), target),
            "jet": _step(case.jet, field, x, target),
        }
        if compiled:
            steps["compiled"] = _step(case.jet, field, x, target, compile=True)
        memory[case.name] = {}
        for name, step in steps.items():
            step()  # compiles, warms up
            memory[case.name][name] = peak_memory(step, torch.device(device))
        seconds[case.name] = take_turns(steps, rounds=rounds, device=device)
    about = (
        f"{points:,} points, 2-{'-'.join([str(width)] * (hidden_layers + 1))}-C, {rounds} rounds, {_describe(device)}"
    )
    return JetTable(seconds, memory, about)


def usual_gradient(y: Float[Tensor, "N C"], x: Float[Tensor, "N D"]) -> Float[Tensor, "N C D"]:
    """dy/dx by autograd, one backward for each channel."""
    return torch.stack([torch.autograd.grad(c.sum(), x, create_graph=True)[0] for c in y.unbind(-1)], dim=-2)


def usual_diagonal(y: Float[Tensor, "N C"], x: Float[Tensor, "N D"]) -> Float[Tensor, "N C D"]:
    """The Hessian's diagonal by autograd, one backward more for each channel and coordinate."""
    gradient = usual_gradient(y, x)
    second = [
        [torch.autograd.grad(g.sum(), x, create_graph=True)[0][:, d] for d, g in enumerate(channel.unbind(-1))]
        for channel in gradient.unbind(-2)
    ]
    return torch.stack([torch.stack(channel, dim=-1) for channel in second], dim=-2)


def _jet(part: str, **wanted: Any) -> Callable[[Siren, Tensor], Tensor]:
    return lambda field, x: getattr(field.jet(x, **wanted), part)


CASES: Sequence[Case] = (
    Case("value", 1, lambda field, x: field(x), lambda field, x: field(x)),
    Case("gradient", 1, lambda field, x: usual_gradient(field(x), x), _jet("gradient")),
    Case(
        "Laplacian",
        1,
        lambda field, x: usual_diagonal(field(x), x).sum(-1),
        _jet("laplacian", first=False, second="laplacian"),
    ),
    *(
        Case(
            f"diagonal, C={c}" + (f", 1/{fewer} of points" if fewer > 1 else ""),
            c,
            lambda field, x: usual_diagonal(field(x), x),
            _jet("hessian_diagonal", first=False, second="diagonal"),
            fewer,
        )
        for c, fewer in ((2, 1), (11, 8))
    ),
)


def _step(
    quantity: Callable[[Siren, Tensor], Tensor], field: Siren, x: Tensor, target: Tensor, compile: bool = False
) -> Step:
    def loss() -> Tensor:
        return (quantity(field, x) - target).square().mean()

    forward = torch.compile(loss, fullgraph=True) if compile else loss

    def step() -> None:
        field.zero_grad()
        forward().backward()

    return step


def _describe(device: torch.device | str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads"
