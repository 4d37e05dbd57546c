#!/bin/sh
# Make the tiny base model from nothing: about two hours on two CPU cores, no GPU.
# Needs python3, npm and rsvg-convert (Debian: librsvg2-bin), and a C++ compiler (for torch.compile).
# Every training step can be interrupted: start this again and it goes on.
set -e
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-work}
mkdir -p "$work"
[ -d "$work/venv" ] || { python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -r "$here/requirements.txt"; }
cp "$here/package.json" "$work/" && npm install --prefix "$work" --no-audit --no-fund
py="$work/venv/bin/python"
[ -f "$work/data.npz" ] || "$py" "$here/data.py" --work "$work"
"$py" "$here/tokenizer.py" --work "$work"
"$py" "$here/vae.py" --work "$work"
"$py" "$here/unet.py" --work "$work"
"$py" "$here/words.py" --work "$work"
"$py" "$here/export.py" --work "$work" --out "$here/../tiny"
"$py" "$here/sheet.py" --work "$work" --model "$here/../tiny" --out "$here/../sheet.png" --styles noto,fluent
