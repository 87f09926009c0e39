#!/usr/bin/env bash
# Pillow and a FITS of 16 bits without sign, as FITS stores them: signed, with BZERO = 32768 in the header (FITS 4.0, 4.4.2.5).
#
# A good guess: the values of the header come, 0 as 0.
# BZERO is not heeded, nor the sign. Pillow 12.0.0 takes the bytes in the wrong order, too: 0 comes as 128, 40000 as 16412.
# Pillow 13.0.0: 0 comes as 32768 and 40000 as 7232. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/bzero.py" <<'PY'
import io
import struct
from PIL import Image, __version__

words = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 2, "NAXIS2": 1, "BZERO": 32768, "BSCALE": 1}
head = "".join(f"{key:<8}= {value!s:>20}".ljust(80) for key, value in words.items()) + "END".ljust(80)
true = [0, 40000]
data = struct.pack(">2h", *(value - 32768 for value in true))
picture = Image.open(io.BytesIO(head.ljust(2880).encode() + data.ljust(2880, b"\0")))
seen = [picture.getpixel((x, 0)) for x in (0, 1)]
print(__version__, picture.mode, seen, "right" if seen == true else "BZERO is not heeded")
PY
check() {
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "pillow==$1"
  seen="$("$work/$1/bin/python" "$work/bzero.py")"
  echo "$seen"
  case "$seen" in
    *"$2 BZERO is not heeded"*) ;;
    *)
      echo "expected: $2"
      exit 1
      ;;
  esac
}
check 12.0.0 "[128, 16412]"
check 13.0.0 "[32768, 7232]"
