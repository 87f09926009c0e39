#!/usr/bin/env bash
# SciPy's sparse LU of several matrices with one pattern, whose index arrays they share.
#
# A good guess: scipy.sparse.linalg.splu reads its matrix and leaves it as it is, so that solvers which factorise for one
# frequency after the other may build each matrix around the same indices and indptr: csc_array((data, indices, indptr)).
# SciPy 1.13.0: indices of a column that are not sorted, as a csc_array made from coordinates has them there, are sorted
# in place, without a word. The caller's own array changes, and the next matrix that is built around it has its values
# in the wrong places: the first solve is right, the second is not. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/factors.py" <<'PY'
import numpy as np
import scipy
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

# Columns 0 and 1 hold their rows in falling order, which the format allows.
data, indices, indptr = np.array([1.0, 4.0, 5.0, 2.0]), np.array([1, 0, 1, 0]), np.array([0, 2, 4])
before, right = indices.copy(), np.array([1.0, 2.0])
errors = []
for _ in range(2):
    matrix = csc_array((data.copy(), indices, indptr), shape=(2, 2))
    wanted = np.array([[4.0, 2.0], [1.0, 5.0]])
    errors.append(float(np.abs(wanted @ splu(matrix).solve(right) - right).max()))
print(f"scipy {scipy.__version__}: indices {before.tolist()} became {indices.tolist()}; errors {errors}")
assert indices.tolist() == [0, 1, 0, 1]
assert errors[0] < 1e-12 < 0.1 < errors[1]
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q "scipy==1.13.0" "numpy==1.26.4"
"$work/env/bin/python" "$work/factors.py"
