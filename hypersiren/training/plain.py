"""PyTorch's optimisers without its compiler.

PyTorch keeps its compiler away from some methods of optimisers, and imports it, with sympy and triton, to do so: 2.5
seconds of processor time before a first step that compiles nothing. These methods are taken without that here.
"""

import inspect
from typing import Any

import torch


class PlainOptimizer(torch.optim.Optimizer):
    """The base of an optimiser that imports no compiler; nothing else is changed.

    Example:
        >>> import sys
        >>> "torch._dynamo" in sys.modules or AdamW([torch.nn.Parameter(torch.zeros(2))]).step() is None
        True
    """

    add_param_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad: Any = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict: Any = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict: Any = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class AdamW(PlainOptimizer, torch.optim.AdamW):
    """Adam with decoupled weight decay."""

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class LBFGS(PlainOptimizer, torch.optim.LBFGS):
    """L-BFGS."""
