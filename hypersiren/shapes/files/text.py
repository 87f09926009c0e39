"""Tables of points as text (.xyz, .txt, .csv, .asc, .pts): how numbers are set apart, and what columns mean.

Numbers are set apart by blanks, commas or semicolons. A comma is a decimal comma where semicolons or blanks set apart
and no number has a point ("1,5;2,3;4,0"); where both readings are possible the file is refused. A first line may name
the columns, also as a comment, or count the rows. Comments begin with # or //.

Symbols: N points, C columns.
"""

import codecs
import io
import re
import warnings

import numpy as np
from jaxtyping import Float

from hypersiren.shapes.files.tables import RawPoints, as_colours, from_columns
from hypersiren.signals.files import SignalError, one_line

NAMES = {
    "red": "r", "green": "g", "blue": "b", "normal_x": "nx", "normal_y": "ny", "normal_z": "nz",
    "normalx": "nx", "normaly": "ny", "normalz": "nz",
}  # fmt: skip
"""What people also call columns."""

PTS = {4: "x y z i", 6: "x y z r g b", 7: "x y z i r g b"}
"""Columns of a .pts by their number, as scanners write it."""

HINT = "--signal.columns names them: x,y,z,nx,ny,nz or x,y,z,r,g,b, and - for others"


def read_text(data: bytes, ending: str, columns: str | None = None) -> RawPoints:
    """The points of a table.

    Args:
        data: What the file holds.
        ending: That of its name.
        columns: Names of the columns, such as "x,y,z,r,g,b"; None for what the file or its format says.

    Raises:
        SignalError: If it is no table, or what its columns mean is doubtful.

    Example:
        >>> read_text(b"X;Y;Z\\n1,5;2;3\\n4;5,25;6\\n", ".csv").points.tolist()
        [[1.5, 2.0, 3.0], [4.0, 5.25, 6.0]]
    """
    rows, names = _table(_decoded(data), columns)
    if columns is None and names is None and ending == ".pts" and rows.shape[1] in PTS:
        names = PTS[rows.shape[1]].split()
    return points_of(rows, names)


def points_of(rows: Float[np.ndarray, "N C"], names: list[str] | None = None) -> RawPoints:
    """Points among columns, with normals where they are named so, or where columns 4 to 6 are of unit length and sign.

    Colours, whole numbers of 0 to 255 or floats of 0 to 1 without a sign, are no normals.

    Raises:
        SignalError: If what the columns mean is doubtful.

    Warns:
        UserWarning: If columns 4 to 6 are taken as colours.
    """
    if names is not None:
        if len(names) != rows.shape[1]:
            raise SignalError(f"expected {len(names)} columns ({', '.join(names)}), got {rows.shape[1]}")
        if doubled := {name for name in names if name in ["x", "y", "z", "nx", "ny", "nz"] and names.count(name) > 1}:
            raise SignalError(f"expected each column once, got {', '.join(sorted(doubled))} several times")
        return from_columns(dict(zip(names, rows.T, strict=True)))
    if rows.shape[1] not in (3, 6):
        raise SignalError(f"expected rows of 3 numbers, or 6 with normals, got {rows.shape[1]} columns; {HINT}")
    points, rest = rows[:, :3], rows[:, 3:]
    finite = rest[np.isfinite(rest).all(1)] if rest.size else rest
    if not finite.size:
        return RawPoints(points)
    lengths = np.linalg.norm(finite, axis=1)
    unit = (np.abs(lengths - 1) < 0.02).mean() > 0.95 * (lengths > 0).mean()
    least, most = finite.min(), finite.max()
    if unit and least < 0:
        return RawPoints(points, rest)
    whole = bool((finite == np.round(finite)).all())
    if not unit and least >= 0 and (most <= 1 or (most <= 255 and whole)):
        warnings.warn(f"columns 4 to 6 are taken as colours, from {least:g} to {most:g}; {HINT}", stacklevel=2)
        return RawPoints(points, colours=as_colours(rest))
    raise SignalError(
        f"expected normals in columns 4 to 6, of length 1 with either sign, or colours, got lengths from "
        f"{lengths.min():.4g} to {lengths.max():.4g} and values from {least:.4g} to {most:.4g}; {HINT}"
    )


def split_names(columns: str) -> list[str]:
    """Names of columns, in small letters, as they are called here.

    Example:
        >>> split_names("X, Y, Z, Red, Normal_X")
        ['x', 'y', 'z', 'r', 'nx']
    """
    words = [word.strip(" \t\"'/").lower() for word in re.split(r"[;,\s]+", columns.strip())]
    return [NAMES.get(word, word) for word in words if word]


def _decoded(data: bytes) -> str:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace").lstrip("\ufeff")
    return data.decode("latin-1")


def _table(text: str, columns: str | None) -> tuple[Float[np.ndarray, "N C"], list[str] | None]:
    """The numbers, and the names of their columns where somebody says them."""
    names = None if columns is None else split_names(columns)
    if names is not None and not {"x", "y", "z"} <= set(names):
        raise SignalError(f"expected columns with x, y and z, got {', '.join(names)}")
    if "\0" in text:
        raise SignalError("expected rows of numbers, got bytes that are no text")
    comments = re.match(r"(?:[ \t]*(?:(?:#|//)[^\n]*)?\r?\n)*", text)
    commented = [split_names(line.lstrip(" \t#/")) for line in (comments[0] if comments else "").splitlines()]
    body = re.sub(r"(?:#|//)[^\n]*", "", text).replace("\r\n", "\n").replace("\r", "\n").strip()
    first, _, rest = body.partition("\n")
    words = split_names(first)
    header = next((line for line in reversed(commented) if {"x", "y", "z"} <= set(line)), None)
    if words and not all(_is_number(word) for word in words):
        header, body = words, rest.strip()
        first, _, rest = body.partition("\n")
    count = int(first) if rest and re.fullmatch(r"\s*\d{1,18}\s*", first) else None
    if count is not None:
        body = rest.strip()
    if header is not None and not body:
        raise SignalError("expected rows of numbers, got a header alone, or a row of words")
    rows = _numbers(body, named=names is not None or header is not None)
    if count is not None and count != len(rows):
        raise SignalError(f"truncated or broken: the first line counts {count} rows, got {len(rows)}")
    if names is None and header is not None:
        if not {"x", "y", "z"} <= set(header):
            raise SignalError(
                f"expected columns x, y and z, got the header {one_line(ValueError(' '.join(header)))}; {HINT}"
            )
        commented_only = words != header
        names = None if commented_only and len(header) != rows.shape[1] else header
    return rows, names


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[ed][-+]?\d+)?|nan|[-+]?inf(?:inity)?", word) is not None


def _numbers(body: str, named: bool) -> Float[np.ndarray, "N C"]:
    """Rows of numbers, set apart and written as the file has them."""
    delimiter, point, doubt = None, "." in body, "decimal commas, or commas between the numbers?"
    if ";" in body:
        delimiter, body = ";", re.sub(r";[ \t]*$", "", body, flags=re.MULTILINE)
        if "," in body and point:
            raise SignalError("expected numbers with decimal points or with decimal commas, got both")
        body = body.replace(",", ".")
    elif "," in body:
        if re.search(r"[^\s,][ \t]+[^\s,]", body):  # blanks set apart, too
            if point or not re.search(r"\d,\d", body) or re.search(r",[ \t,]|,$", body, flags=re.MULTILINE):
                raise SignalError(f"expected numbers set apart in one way, got commas and blanks: {doubt}")
            body = body.replace(",", ".")
        else:
            delimiter, body = ",", re.sub(r",[ \t]*$", "", body, flags=re.MULTILINE)
            if not point and not named and body.partition("\n")[0].count(",") > 2:
                raise SignalError(f"got whole numbers and commas alone: {doubt} {HINT}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's of an empty table
            table = np.loadtxt(io.StringIO(body), np.float64, comments=None, delimiter=delimiter, ndmin=2)
    except ValueError as error:
        reason = one_line(error).partition("; use")[0]  # NumPy's advice is for programmers
        raise SignalError(f"expected rows of numbers, all of one length ({reason})") from error
    return table if len(table) else np.empty((0, 3))
