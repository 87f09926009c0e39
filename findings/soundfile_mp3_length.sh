#!/usr/bin/env bash
# soundfile (libsndfile 1.2.2) and an MP3 of variable bit rate without the frame that tells its length (Xing), such as a
# part that was cut out of a stream.
#
# A good guess: all of it can be read; at worst `frames` is not known.
# soundfile 0.13.1: `frames` is guessed from the size of the file and the rate of its first frame, and nothing beyond it
# is read: of 10 s of sound that begins loudly and goes on quietly, fewer come, without a word. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/length.py" <<'PY'
import io
import numpy as np
import soundfile

rate = 44100
t = np.arange(10 * rate) / rate
noise = np.random.default_rng(0).normal(0, 0.2, len(t))
wave = np.where(t < 2, noise, 0.001 * np.sin(2 * np.pi * 440 * t))
file = io.BytesIO()
soundfile.write(file, wave, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.3)
data = file.getvalue()
whole = len(soundfile.read(io.BytesIO(data))[0]) / rate
kilobits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
first = 144 * 1000 * kilobits // rate + (data[2] >> 1 & 1)
assert b"Xing" in data[:first] or b"Info" in data[:first]
cut = len(soundfile.read(io.BytesIO(data[first:]))[0]) / rate
print(soundfile.__libsndfile_version__, f"whole {whole:.1f} s, without its first frame {cut:.1f} s", "short" if cut < 8 else "all")
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q "soundfile==0.13.1" "numpy==2.3.5"
seen="$("$work/env/bin/python" "$work/length.py")"
echo "$seen"
case "$seen" in
  *short*) ;;
  *)
    echo "expected: fewer than 8 s"
    exit 1
    ;;
esac
