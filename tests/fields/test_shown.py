"""What is printed of networks and of what holds tensors: sizes and shapes."""

import torch

from hypersiren import Context, CoordinateMLP, HyperSiren, LastLayerSolve, LocalSiren, MixtureSolve, Siren
from hypersiren.completion.images.task import Completion
from hypersiren.fields.activations import Finer
from hypersiren.fields.encodings import RadialBasis
from hypersiren.signals.sets.images import ImageSet
from hypersiren.tasks.task import Points


def test_networks_are_shown_by_their_sizes():
    assert repr(Siren(2, 3)) == "Siren(2 -> 256 x 4 -> 3, omega 30/30)"
    assert repr(Siren(1, 1, (32, 32, 128), first_omega=24209)) == "Siren(1 -> 32 x 2 -> 128 -> 1, omega 24209/30)"
    assert repr(Siren(2, 3, 8, 0)) == "Siren(2 -> 8 -> 3, omega 30/30)"
    local = LocalSiren(2, 1, 16, 1, token_size=(4, 5), token_features=8)
    assert repr(local) == "LocalSiren(2 -> 16 x 2 -> 1, omega 30/30, 4 x 5 tokens of 8)"
    assert repr(CoordinateMLP(2, 3, 64, activation="tanh")) == "CoordinateMLP(2 -> 64 x 4 -> 3, tanh)"
    finer = CoordinateMLP(2, 3, 64, 1, activation=Finer(first_omega=60.0), encoding=RadialBasis(2, 32))
    assert repr(finer).startswith("CoordinateMLP(2 -> RadialBasis 32 -> 64 x 2 -> 3, Finer(first_omega=60.0, ")


def test_a_network_inside_another_takes_one_line():
    model = HyperSiren(None, None, Siren(2, 3, (16, 32)), LastLayerSolve(32))
    assert "  (siren): Siren(2 -> 16 -> 32 -> 3, omega 30/30)\n" in repr(model)


def test_tensors_are_shown_by_their_shapes():
    siren = Siren(2, 3, (16, 32))
    context = Context.from_images(torch.rand(4, 8, 8, 3), torch.rand(4, 8, 8) < 0.5)
    shown = "x (4, 64, 2), y (4, 64, 3), mask (4, 64), size=(8, 8), cells (4, 64), shared_points=False, kind=Values()"
    assert repr(context) == f"Context({shown})"
    assert (
        repr(siren.jet(torch.rand(5, 2), second="full"))
        == "Jet(value (5, 3), gradient (5, 3, 2), hessian (5, 3, 2, 2))"
    )
    name = "Siren(2 -> 16 -> 32 -> 3, omega 30/30)"
    found = HyperSiren(None, None, siren, LastLayerSolve(32)).predict(context)
    assert repr(found.field) == f"BoundSiren({name}, 2 of 6 weights given, for 4 signals)"
    assert repr(found.field.signal(0)) == f"BoundSiren({name}, 2 of 6 weights given)"
    posterior = f"posterior=GaussianPosterior(siren={name}, "
    assert repr(found).startswith(f"Prediction(siren={name}, params of 2 tensors, {posterior}")
    mixed = HyperSiren(None, None, Siren(2, 3, (16, 32)), MixtureSolve(32, priors=2)).predict(context)
    images = ImageSet(torch.zeros(9, 8, 6, 3, dtype=torch.uint8), "flat")
    batch = Completion(images, batch_size=2).sample(torch.Generator())
    for thing in (found, mixed, batch, Points(torch.zeros(2, 2), torch.zeros(2, 3))):
        assert "tensor(" not in repr(thing)
        assert len(repr(thing)) < 1500
    assert repr(images) == "ImageSet(flat: 9 images of 8 x 6 x 3 on cpu)"
