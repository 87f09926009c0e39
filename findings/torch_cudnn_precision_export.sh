#!/usr/bin/env bash
# PyTorch's flag for the precision of cuDNN's convolutions, and torch.export of a network without any convolution.
#
# A good guess: torch.backends.cudnn.conv.fp32_precision = "ieee", as the notes on TF32 show it, makes convolutions on a
# GPU exact and concerns nothing else, least of all on a machine without a GPU.
# torch 2.11.0, CPU: while it is set, torch.export.export of any module and torch.backends.cudnn.flags() raise
# RuntimeError ("... cuDNN conv and cuDNN RNN have different TF32 flags ..."): they read the older flag
# torch.backends.cudnn.allow_tf32, which contradicts the finer ones. The flag of recurrent networks set as well does not
# help; allow_tf32 = False before both does. Fails if this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/precision.py" <<'PY'
import torch

cudnn = torch.backends.cudnn


def outcome():
    try:
        torch.export.export(torch.nn.Linear(2, 3), (torch.zeros(4, 2),))
    except RuntimeError as error:
        return f"refused: {str(error)[:100]}"
    return "exported"


print(f"torch {torch.__version__}")
found = {"as it starts": outcome()}
cudnn.conv.fp32_precision = "ieee"
found["convolutions in ieee"] = outcome()
cudnn.rnn.fp32_precision = "ieee"
found["recurrent networks, too"] = outcome()
cudnn.allow_tf32 = False
cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "ieee"
found["after allow_tf32 = False"] = outcome()
for name, what in found.items():
    print(f"{name}: {what}")
assert [what == "exported" for what in found.values()] == [True, False, False, True]
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q "torch==2.11.0" "numpy==2.3.5"
"$work/env/bin/python" "$work/precision.py"
