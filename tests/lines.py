"""What the command writes on stderr, apart: lines of stages, and the one line of a refusal."""

STAGES = ("loading PyTorch", "reading ", "building ", "first omega ", "run folder ", "resuming ", "field ", "training ")


def refusal(err: str) -> str:
    """The one line that says why the command refuses; nothing but stages may stand above it."""
    *stages, last = err.strip().splitlines()
    assert last.startswith("hypersiren: "), err
    assert all(any(word in line for word in STAGES) and not line.startswith("hypersiren: ") for line in stages), err
    return last.removeprefix("hypersiren: ")
