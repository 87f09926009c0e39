"""Settings of every task: network or hypernetwork, and the optimisation. Imports no torch."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from hypersiren.fields.settings import Network
from hypersiren.settings.section import NotNegative, Section, Share


class Optimisation(Section):
    """The optimisation."""

    steps: PositiveInt = 1000
    """Optimiser updates."""
    optimizer: Literal["adam", "muon", "lbfgs"] = "muon"
    """adam for all weights; muon for the matrices of 16 rows and columns or more and Adam for the others; or lbfgs,
    where each step is one iteration with line search on points drawn once, and lr, first_lr, warmup, decay,
    weight_decay and clip are ignored."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from 0."""
    decay: Literal["constant", "cosine", "exponential"] = "cosine"
    """Schedule of the learning rate after the warm-up; cosine ends at 0, exponential at 1/150 of the peak."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    clip: PositiveFloat | None = None
    """Largest norm of the gradient; null: not clipped."""
    ema: Share = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0: no averaging."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are averaged in one step."""
    parts: PositiveInt | None = None
    """Equal parts of a batch that are computed one after the other: the same gradient within less memory; null: as many
    as the free memory of the GPU asks for, and 1 on a CPU."""
    tf32: bool = False
    """Let convolutions on a GPU round their factors to 10 bits (TF32), which is faster; off: float32, as on a CPU."""
    compile: bool | Literal["graphs"] = False
    """true: torch.compile the forward pass; graphs: replay it and its backward pass as CUDA graphs, too (on a CPU, with
    lbfgs, accumulate, parts, several processes or batches of varying shapes as with true)."""
    log_every: PositiveInt = 50
    """Steps between TensorBoard scalars."""
    validate_every: PositiveInt = 500
    """Steps between validations, pictures and checkpoints."""

    @field_validator("compile", mode="before")
    @classmethod
    def _compile(cls, value: Any) -> Any:
        if value not in (True, False, "graphs"):
            raise ValueError("expected true, false or graphs")
        return value

    @model_validator(mode="after")
    def _check(self) -> Any:
        for name in ("accumulate", "parts"):
            if self.optimizer == "lbfgs" and (getattr(self, name) or 1) > 1:
                raise ValueError(f"expected {name} of 1 with the optimizer lbfgs, got {getattr(self, name)}")
        return self


class FitTraining(Optimisation):
    """The optimisation."""

    steps: Annotated[int, Field(ge=0)] | None = None  # type: ignore[assignment]
    """Optimiser updates; null: none for windows, which are solved, and as many as the task needs for other fields."""
    points: PositiveInt | None = 8192
    """Random points of the signal in each step; null: all of them, as in the paper."""
    first_lr: PositiveFloat | None = None
    """Times the learning rate, for the first layer; null: a SIREN's hidden_omega / first_omega, at most 1."""


class FitSettings(Section):
    """Settings of every fit."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes initial weights and random points."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    start: Path | None = None
    """Run folder, or checkpoint, of a fit of one network: this fit begins with its weights, and has its network. null:
    new weights."""
    network: Network = Network()
    training: FitTraining = FitTraining()

    trained_steps: ClassVar[int] = 1000
    """Optimiser updates of a field that is trained, where `training.steps` is null."""
