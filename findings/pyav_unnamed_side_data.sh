#!/usr/bin/env bash
# PyAV and the side data of a frame: a Motion JPEG whose pictures say by EXIF how they lie, as cameras write them.
#
# A good guess: frame.side_data holds what PyAV has names for, or tells the others by their numbers.
# PyAV 18.1.0 (FFmpeg 8): any access raises "ValueError: 31 is not a valid Type", also when another kind is asked for.
# Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/side.py" <<'PY'
import io
import av
from av.sidedata.sidedata import Type
from PIL import Image

exif = Image.Exif()
exif[0x0112] = 6
file = io.BytesIO()
Image.new("RGB", (64, 48), "red").save(file, "JPEG", exif=exif)
with av.open(io.BytesIO(3 * file.getvalue()), format="mjpeg") as container:
    frame = next(container.decode(video=0))
    try:
        print(av.__version__, "side data:", frame.side_data.get(Type.DISPLAYMATRIX))
    except ValueError as error:
        print(av.__version__, "ValueError:", error)
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q "av==18.1.0" "pillow==12.0.0"
seen="$("$work/env/bin/python" "$work/side.py")"
echo "$seen"
case "$seen" in
  *"31 is not a valid Type"*) ;;
  *)
    echo "expected: ValueError: 31 is not a valid Type"
    exit 1
    ;;
esac
