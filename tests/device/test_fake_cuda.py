"""The rules of the fake device, each with an example: what CUDA's build of PyTorch documents and its sources check."""

import numpy as np
import pytest
import torch

from tests.device.fake_cuda import CPU, CUDA, Counts, FakeCuda

pytestmark = [pytest.mark.device, pytest.mark.quick]


@pytest.fixture
def cuda():
    with FakeCuda() as device:
        yield device
    assert torch.Generator.__name__ == "Generator"


def d(*shape):
    return torch.ones(*shape, device="cuda")


def c(*shape):
    return torch.ones(*shape)


def index(device="cpu"):
    return torch.tensor([0, 1], device=device)


REFUSED = {
    "add of a CPU tensor": lambda: d(2) + c(2),
    "product with a CPU matrix": lambda: d(2, 2) @ c(2, 2),
    "where, CPU condition": lambda: torch.where(c(2) > 0, d(2), 1.0),
    "stack of numbers": lambda: torch.stack([d(1)[0], c(1)[0]]),
    "cat": lambda: torch.cat([d(2), c(2)]),
    "CUDA index of a CPU tensor": lambda: c(3)[index("cuda")],
    "index_select, CPU index": lambda: d(3).index_select(0, index()),
    "gather, CPU index": lambda: d(3).gather(0, index()),
    "set by index from the CPU": lambda: d(3).__setitem__(index(), c(2)),
    "numpy": lambda: d(3).numpy(),
    "np.asarray": lambda: np.asarray(d(3)),
    "CPU generator": lambda: torch.rand(2, device="cuda", generator=torch.Generator()),
    "CUDA generator for the CPU": lambda: torch.rand(2, generator=torch.Generator("cuda")),
    "long @ long": lambda: index("cuda") @ index("cuda"),
    "long matrix @ long": lambda: d(2, 2).long() @ index("cuda"),
    "lstsq, gelsd": lambda: torch.linalg.lstsq(d(5, 2), d(5, 1), driver="gelsd"),
    "pinned CUDA tensor": lambda: d(2).pin_memory(),
}

ALLOWED = {
    "add of a CPU number": lambda: d(2) + torch.tensor(1.0),
    "where, CPU number": lambda: torch.where(d(2) > 0, d(2), torch.tensor(1.0)),
    "lerp, CPU number as weight": lambda: torch.lerp(d(2), d(2), torch.tensor(0.5)),
    "clamp, CPU numbers": lambda: d(2).clamp(torch.tensor(0.0), torch.tensor(1.0)),
    "CPU index": lambda: d(3)[index()],
    "CPU mask": lambda: d(2)[c(2) > 0],
    "CUDA number as index of a CPU tensor": lambda: c(3)[torch.zeros((), dtype=torch.long, device="cuda")],
    "set by slice from the CPU": lambda: d(3).__setitem__(slice(0, 2), c(2)),
    "set by index, CPU number": lambda: d(3).__setitem__(index(), torch.tensor(2.0)),
    "masked_fill, CPU number": lambda: d(3).masked_fill(d(3) > 0, torch.tensor(2.0)),
    "bool << long": lambda: (d(3) > 0) << torch.arange(3, device="cuda"),
    "cumsum of bools": lambda: (d(3) > 0).cumsum(0),
    "lstsq": lambda: torch.linalg.lstsq(torch.arange(10.0, device="cuda").view(5, 2), d(5, 1)),
    "cholesky_ex": lambda: torch.linalg.cholesky_ex(torch.eye(3, device="cuda")),
    "uint8 sort": lambda: torch.ones(2, 3, dtype=torch.uint8, device="cuda").sort(dim=1, stable=True),
    "quantile": lambda: d(5).quantile(0.9),
    "isin": lambda: torch.isin(index("cuda"), index("cuda")),
    "CUDA generator": lambda: torch.rand(2, device="cuda", generator=torch.Generator("cuda").manual_seed(3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses(name, cuda):
    with pytest.raises((RuntimeError, TypeError)):
        REFUSED[name]()


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_allows(name, cuda):
    ALLOWED[name]()


def test_what_is_made_of_a_tensor_is_where_it_is(cuda):
    x, host = d(3, 4), c(3, 4)
    assert x.device == x[0].device == (x + 1).device == x.new_tensor([1.0]).device == host.to(x).device == CUDA
    assert host.device == x.cpu().device == x.to(host).device == CPU
    layer = torch.nn.Linear(4, 2, device="cuda")
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(x).square().sum().backward()
    optimizer.step()
    assert layer.weight.grad.is_cuda
    assert torch.nn.Linear(2, 2).to("cuda").weight.is_cuda
    assert torch.func.vmap(lambda row: row.sum())(x).is_cuda


def test_waits_are_counted_and_memory_too(cuda):
    x = d(1000)
    assert torch.cuda.memory_allocated() == 4000
    cuda.counts = Counts()
    torch.nn.utils.get_total_norm([x])
    c(3).to("cuda", non_blocking=True)
    assert not cuda.counts.waits
    assert cuda.counts.launches.total() > 0
    cuda.counts = Counts()
    assert x.sum().item() == 1000
    assert x[:2].tolist() == [1, 1]
    assert len(x[x > 3]) == 0
    torch.linalg.solve(torch.eye(3, device="cuda"), d(3, 1))
    waits = sorted(wait.partition(" @")[0] for wait in cuda.counts.waits)
    assert waits == ["_linalg_check_errors", "_local_scalar_dense", "boolean index", "tolist"]
    del x
    assert torch.cuda.memory_allocated() == 0
