#!/bin/sh
# Make the tiny base model from nothing with the engine of this tree: about an hour and a half on two CPU cores, no GPU.
#
#     sh make.sh WORK
#
# Needs build/maquette, python3, npm and rsvg-convert (Debian: librsvg2-bin). It can be interrupted at any time: start it
# again and it goes on, to the same bytes. The new model is WORK/base.
set -e
here=$(cd "$(dirname "$0")" && pwd)
maquette=${MAQUETTE:-$here/../../build/maquette}
work=${1:-work}
mkdir -p "$work"
cp "$here/package.json" "$work/" && npm install --prefix "$work" --no-audit --no-fund
python3 "$here/tokenizer.py" --work "$work"
python3 "$here/job.py" --work "$work" --vae
"$maquette" pretrain "$work/vae-job"
python3 "$here/job.py" --work "$work"
"$maquette" pretrain "$work/job"
mkdir -p "$work/base" && cp -r "$work/job/base/." "$work/job/out/unet" "$work/job/out/text_encoder" "$work/base/"
