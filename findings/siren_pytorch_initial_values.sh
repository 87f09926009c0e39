#!/usr/bin/env bash
# siren-pytorch's SirenNet, as its README makes it, and the values of a new network.
#
# A good guess: they are as small as those of the SIREN paper's own code, whose linear last layer is drawn with
# hidden omega 30 like the others, U(-sqrt(6/n)/30, sqrt(6/n)/30): a new network is a function near 0, of standard
# deviation 1/30.
# siren-pytorch 0.1.7: the hidden w0 is 1 by default and the last layer, which has no sine to undo it, is drawn with it,
# too: U(-sqrt(6/n), sqrt(6/n)). New values have standard deviation 1, 30 times as large (0.97 seen), so that a fit to
# values in [-1, 1] starts with a mean squared error near 1 plus their own. With w0=30.0 they have 1/30. Fails if this
# changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/values.py" <<'PY'
import math

import torch
from siren_pytorch import SirenNet


def deviation(make):
    found = []
    for seed in range(8):
        torch.manual_seed(seed)
        net, x = make(), torch.rand(4096, 2) * 2 - 1
        with torch.no_grad():
            found.append(net(x).square().mean())
    return math.sqrt(torch.stack(found).mean())


def plain():
    """The paper's network in a few lines, with the initial weights of its code."""
    sizes, layers = [2, 256, 256, 256, 256, 256], []
    for i, (n, m) in enumerate(zip(sizes, sizes[1:])):
        layer = torch.nn.Linear(n, m)
        bound = 1 / n if i == 0 else math.sqrt(6 / n) / 30
        torch.nn.init.uniform_(layer.weight, -bound, bound)
        layers.append(layer)
    last = torch.nn.Linear(256, 1)
    bound = math.sqrt(6 / 256) / 30
    torch.nn.init.uniform_(last.weight, -bound, bound)
    torch.nn.init.zeros_(last.bias)

    def values(x):
        for layer in layers:
            x = torch.sin(30 * layer(x))
        return last(x)

    return values


default = deviation(lambda: SirenNet(dim_in=2, dim_hidden=256, dim_out=1, num_layers=5, w0_initial=30.0))
told = deviation(lambda: SirenNet(dim_in=2, dim_hidden=256, dim_out=1, num_layers=5, w0_initial=30.0, w0=30.0))
paper = deviation(plain)
print(f"torch {torch.__version__}: siren-pytorch {default:.3f}, with w0=30 {told:.3f}, the paper's code {paper:.3f}")
assert 0.7 < default < 1.3, "expected values of deviation 1 from a new SirenNet"
assert 0.02 < told < 0.05
assert 0.02 < paper < 0.05
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q "siren-pytorch==0.1.7" "torch==2.11.0" "numpy==2.3.5"
"$work/env/bin/python" "$work/values.py"
