"""What the command writes on stderr, apart: lines of stages, and the one line of a refusal."""

COMMANDS = ("fit ", "train ", "compare ", "complete ", "render ", "mesh ", "export ", "initialisation", "benchmark ")

STAGES = (*COMMANDS, "reading ", "building ", "first omega ", "run folder ", "resuming ", "field ", "simulating ")


def refusal(err: str) -> str:
    """The one line that says why the command refuses; nothing but stages may stand above it."""
    *stages, last = err.strip().splitlines()
    assert last.startswith("hypersiren: "), err
    assert all(line.startswith(STAGES) or " training " in line for line in stages), err
    return last.removeprefix("hypersiren: ")
