#!/usr/bin/env bash
# scipy.sparse.csgraph.minimum_spanning_tree and a graph in compressed rows whose indices are int64, NumPy's default
# integers on Linux: scipy.sparse's own constructor keeps them as they are given.
#
# A good guess: csgraph takes any sparse array, as the products and solvers of scipy.sparse do.
# SciPy 1.13.0 with NumPy 2.0.0 and SciPy 1.16.3 with NumPy 2.3.5:
# "ValueError: Buffer dtype mismatch, expected ITYPE_t but got 'long'" (worded a little otherwise in each).
# With indices of int32 the same graph has its tree. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/tree.py" <<'PY'
import numpy as np
import scipy
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

data = np.array([1.0, 2.0, 3.0])
indices, indptr = np.array([1, 2, 0]), np.array([0, 1, 2, 3])  # int64, as NumPy makes them
narrow = csr_array((data, indices.astype(np.int32), indptr.astype(np.int32)), shape=(3, 3))
assert minimum_spanning_tree(narrow).sum() == 3.0
graph = csr_array((data, indices, indptr), shape=(3, 3))
print("indices:", graph.indices.dtype)
try:
    print(scipy.__version__, "tree of weight", minimum_spanning_tree(graph).sum())
except ValueError as error:
    print(scipy.__version__, "ValueError:", error)
PY
check() {
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "scipy==$1" "numpy==$2"
  seen="$("$work/$1/bin/python" "$work/tree.py")"
  echo "$seen"
  case "$seen" in
    *"$3"*) ;;
    *)
      echo "expected: $3"
      exit 1
      ;;
  esac
}
check 1.13.0 2.0.0 "Buffer dtype mismatch"
check 1.16.3 2.3.5 "Buffer dtype mismatch"
