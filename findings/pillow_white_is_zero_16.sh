#!/usr/bin/env bash
# Pillow and a gray TIFF whose photometric interpretation says that 0 is white (WhiteIsZero), in 8 and in 16 bits.
#
# A good guess: both come with white as the largest value, as Pillow turns those of 8 bits round.
# Pillow 12.0.0 and 13.0.0: 16 bits come as they are stored, a negative. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/white.py" <<'PY'
import io
import struct
from PIL import Image, __version__


def tiff(bits, data):
    entries = [(256, 4, 2), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, 0), (273, 4, 8), (277, 3, 1), (278, 4, 1)]
    entries += [(279, 4, len(data))]
    table = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in entries)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return io.BytesIO(head + data + struct.pack("<H", len(entries)) + table + bytes(4))


narrow = list(Image.open(tiff(8, bytes([0, 255]))).tobytes())
assert narrow == [255, 0], narrow  # 0 is white
wide = Image.open(tiff(16, struct.pack("<2H", 0, 65535)))
values = [wide.getpixel((x, 0)) for x in (0, 1)]
print(__version__, wide.mode, values, "a negative" if values == [0, 65535] else "right")
PY
check() {
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "pillow==$1"
  seen="$("$work/$1/bin/python" "$work/white.py")"
  echo "$seen"
  case "$seen" in
    *"a negative"*) ;;
    *)
      echo "expected: a negative"
      exit 1
      ;;
  esac
}
check 12.0.0
check 13.0.0
