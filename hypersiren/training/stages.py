"""Tasks that go in stages: what the training loop asks them, where they have it; a task from outside need not."""

from collections.abc import Mapping
from typing import Any


def advance(task: Any, done: int, steps: int) -> bool:
    """Whether this step is validated and saved: a stage of the task is over, or all steps are done."""
    over = bool(task.advance(done, steps)) if hasattr(task, "advance") else False
    return over or done == steps


def ended(task: Any, done: int, steps: int) -> bool:
    """Whether the training is: all steps are done, or the task has nothing left to do."""
    return done >= steps or bool(getattr(task, "finished", False))


def state(task: Any) -> dict[str, Any]:
    """What a task has come to."""
    return dict(task.state()) if hasattr(task, "state") else {}


def set_state(task: Any, found: Mapping[str, Any]) -> None:
    """Let it go on from there; from nothing it begins anew."""
    if hasattr(task, "set_state"):
        task.set_state(found)
