"""A small SIREN as a function of GLSL, for shaders: its weights are numbers in the text.

Features go by four, as GLSL's vectors do: a hidden layer is a sum of products of 4 x 4 matrices, sin(M h + b), omega in
both. Symbols: D coordinate dimensions (1 to 3), C channels (1 to 4), H features, padded with zeros to multiples of 4.
"""

from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import pad

from hypersiren.errors import UserError
from hypersiren.fields.siren import BoundSiren, Siren
from hypersiren.training.folders import write_text

MOST = 20_000
"""Weights: compilers of shaders take a minute for more, and some none."""

SMALLER = "fit a small one by --network.kind siren --network.hidden_features 32 --network.hidden_layers 2"

TYPES = ("float", "vec2", "vec3", "vec4")

IMAGE = """
// For Shadertoy: a gray or colour image, fitted on [-1, 1].
void mainImage(out vec4 color, in vec2 pixel) {{
    vec2 at = 2.0 * pixel / iResolution.xy - 1.0;
    color = vec4(vec3(0.5 + 0.5 * field(vec2(-at.y, at.x)){swizzle}), 1.0);
}}
"""


def write_glsl(field: nn.Module | BoundSiren, path: Path) -> None:
    """Write a SIREN as a GLSL function `field`, and as an image of Shadertoy if it is one.

    Raises:
        UserError: If it is no Siren, or larger than `MOST`.
        SignalError: If the file cannot be written.
    """
    write_text(path, to_glsl(field))


def to_glsl(field: nn.Module | BoundSiren) -> str:
    """The text of the function.

    Example:
        >>> print(to_glsl(Siren(1, 1, 4, 0)).split("{")[0])
        // A SIREN, 1 -> 4 -> 1, omega 30/30, written by hypersiren. Coordinates and values are in [-1, 1];
        // of an image the first coordinate runs from top to bottom.
        float field(float x)
        <BLANKLINE>
    """
    siren = field.module() if isinstance(field, BoundSiren) else field
    if type(siren) is not Siren:
        got = "windows" if hasattr(siren, "windows") else f"a {type(siren).__name__}"
        raise UserError(f"--glsl takes a fit of one small SIREN, got {got}; {SMALLER}")
    d, c, count = siren.in_features, siren.out_features, sum(p.numel() for p in siren.parameters())
    if count > MOST or d > 3 or c > 4:
        raise UserError(
            f"--glsl: expected at most {MOST:,} weights, 3 coordinates and 4 channels, got {count:,}, {d} and {c}; "
            + SMALLER
        )
    layers = siren._linears()
    lines, names = [], [""]
    for i, (layer, omega) in enumerate(zip(layers[:-1], siren._omegas(), strict=True)):
        weight, bias = (omega * value.detach().double().cpu() for value in (layer.weight, layer.bias))
        made: list[str] = []
        for j in range(0, len(weight), 4):
            rows, made = _four(weight[j : j + 4]), [*made, f"h{i}_{j // 4}"]
            if i == 0:
                places = ["x"] if d == 1 else [f"x.{axis}" for axis in "xyz"[:d]]
                parts = [f"{_vector(column)} * {place}" for column, place in zip(rows.mT, places, strict=True)]
            else:
                columns = pad(rows, (0, -rows.shape[1] % 4)).split(4, dim=1)
                parts = [f"{_matrix(block)} * {name}" for block, name in zip(columns, names, strict=True)]
            parts.append(_vector(_four(bias[j : j + 4, None])[:, 0]))
            lines.append(f"    vec4 {made[-1]} = sin({' + '.join(parts)});")
        names = made
    weight, bias = (value.detach().double().cpu() for value in (layers[-1].weight, layers[-1].bias))
    values = []
    for row, constant in zip(pad(weight, (0, -weight.shape[1] % 4)), bias, strict=True):
        products = [f"dot({_vector(part)}, {name})" for part, name in zip(row.split(4), names, strict=True)]
        values.append(" + ".join([*products, _number(constant)]))
    result = values[0] if c == 1 else f"{TYPES[c - 1]}({', '.join(values)})"
    about = repr(siren).removeprefix("Siren(").removesuffix(")")
    head = (
        f"// A SIREN, {about}, written by hypersiren. Coordinates and values are in [-1, 1];\n"
        "// of an image the first coordinate runs from top to bottom.\n"
    )
    function = [f"{head}{TYPES[c - 1]} field({TYPES[d - 1]} x) {{", *lines, f"    return {result};", "}"]
    image = IMAGE.format(swizzle="") if d == 2 and c in (1, 3) else ""
    return "\n".join(function) + "\n" + image


def _four(rows: Tensor) -> Tensor:
    """Rows, filled up with zeros to four."""
    return pad(rows, (0, 0, 0, 4 - len(rows)))


def _number(value: Tensor) -> str:
    """In full single precision, with a point: GLSL does not take 1 for 1.0."""
    text = f"{value.item():.8g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _vector(values: Tensor) -> str:
    return f"vec4({', '.join(map(_number, values))})"


def _matrix(block: Tensor) -> str:
    """GLSL lists a matrix column by column."""
    return f"mat4({', '.join(map(_number, block.mT.flatten()))})"
