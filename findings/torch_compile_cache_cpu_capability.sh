#!/usr/bin/env bash
# torch.compile's cache on disk, and ATEN_CPU_CAPABILITY, by which PyTorch is made to use fewer of a processor's vectors.
#
# A good guess: a program that was compiled for AVX2 is not taken for a process without, as the cache's key has what the
# code was generated for.
# torch 2.11.0: it is taken. Its C++ code names vectors whose header is left out without them, so that the compiler
# stops, and torch.compile raises ("at::vec" has not been declared). With a cache of its own, by
# TORCHINDUCTOR_CACHE_DIR, the same process compiles and is right. Needs a C++ compiler and a processor with AVX2.
# Fails if this changes.
set -euo pipefail
grep -q avx2 /proc/cpuinfo || { echo "skipped: no AVX2 here"; exit 0; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/compiled.py" <<'PY'
import torch


@torch.compile
def wave(x):
    return torch.sin(30 * x) + x


x = torch.linspace(-1, 1, 1000)
torch.testing.assert_close(wave(x), torch.sin(30 * x) + x)
print("right")
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q "torch==2.11.0" "numpy==2.3.5"
run() { TORCHINDUCTOR_CACHE_DIR="$work/$1" ATEN_CPU_CAPABILITY="$2" "$work/env/bin/python" "$work/compiled.py" 2>&1; }
run shared avx2 | tail -n 1
if run shared default > "$work/log"; then
  echo "expected a program of the cache that does not compile"
  exit 1
fi
grep -m 1 -o "CppCompileError: C++ compile error" "$work/log"
run own default | tail -n 1
