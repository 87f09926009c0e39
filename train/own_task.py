"""Give a SIREN a problem of your own: here a pendulum, u'' = -9 sin(u) with u = 1 and u' = 0 at the start.

    python train/own_task.py

A task says where to ask, and how wrong a field is there; `fit` does the rest. It takes ten seconds on a CPU.
"""

import numpy as np
import torch
from scipy.integrate import solve_ivp

from hypersiren import FieldTask, fit

STEPS = 300
SECONDS = 2.0  # over which the field's coordinate runs from -1 to 1
RATE = 2 / SECONDS  # coordinate per second, by which derivatives are multiplied


class Pendulum(FieldTask):
    in_features, out_features = 1, 1  # from time to angle

    def sample(self, generator, progress):
        return torch.rand(256, 1, generator=generator) * 2 - 1

    def loss(self, field, x):
        jet, start = field.jet(x, second="laplacian"), field.jet(torch.tensor([[-1.0]]))
        return {  # named terms, weighted; they are summed
            "equation": (jet.laplacian * RATE**2 + 9 * jet.value.sin()).square().mean(),
            "angle": 100 * (start.value - 1).square().mean(),
            "speed": 10 * (start.gradient * RATE).square().mean(),
        }

    def evaluate(self, field):  # optional: how good it is in the end
        seconds = np.linspace(0, SECONDS, 50)
        truth = solve_ivp(lambda _, u: [u[1], -9 * np.sin(u[0])], (0, SECONDS), [1, 0], t_eval=seconds, rtol=1e-8)
        x = torch.tensor(seconds * RATE - 1, dtype=torch.float32)[:, None]
        return {"largest_error": float(np.abs(field(x)[:, 0].numpy() - truth.y[0]).max())}


result = fit(Pendulum(), steps=STEPS, network={"hidden_features": 64, "hidden_layers": 1, "first_omega": 5.0})
print(f"largest error of the angle: {result.metrics['largest_error']:.1e} radians, {result.seconds:.0f} s")
