"""Peak memory of a step, and the wait for a device."""

import gc
from collections.abc import Callable

import torch


def peak_memory(run: Callable[[], None], device: torch.device) -> int:
    """The most bytes that tensors made by `run` take at once; it runs twice, what the first time leaves is not counted.

    Example:
        >>> peak_memory(lambda: torch.zeros(1000, dtype=torch.float64).sum().item() and None, torch.device("cpu"))
        8008
    """
    run()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
