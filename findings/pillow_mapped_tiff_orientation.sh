#!/usr/bin/env bash
# Pillow and an uncompressed 8-bit gray TIFF whose tag Orientation is 5, 6, 7 or 8, opened by its name.
#
# A good guess: the picture is the same whether it is opened by its name or from an open file.
# Pillow 12.0.0 and 13.0.0: by its name the file is mapped into memory, with the width that the picture has once it is
# turned; the rows are scrambled, without a word. From an open file it is right. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/turned.py" <<'PY'
import sys
from PIL import Image, __version__

name = sys.argv[1]
picture = Image.new("L", (3, 2))
picture.putdata([10, 20, 30, 40, 50, 60])
picture.save(name, tiffinfo={274: 6})  # the first row of the file is the right side of the picture
with open(name, "rb") as file:
    from_file = list(Image.open(file).tobytes())
by_name = list(Image.open(name).tobytes())
assert from_file == [40, 10, 50, 20, 60, 30], from_file
print(__version__, "by name:", by_name, "scrambled" if by_name != from_file else "right")
PY
check() {
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "pillow==$1"
  seen="$("$work/$1/bin/python" "$work/turned.py" "$work/$1.tiff")"
  echo "$seen"
  case "$seen" in
    *scrambled*) ;;
    *)
      echo "expected: scrambled rows"
      exit 1
      ;;
  esac
}
check 12.0.0
check 13.0.0
