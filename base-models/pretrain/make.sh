#!/bin/sh
# Make the tiny base model from nothing with the engine of this tree: about an hour on two CPU cores, no GPU.
#
#     sh make.sh WORK [BASE]
#
# BASE, ../tiny if not given, gives the VAE, the tokenizer and the configs. With VAE=1 in the environment the VAE begins
# from nothing, too. Needs build/maquette, python3, npm and rsvg-convert (Debian: librsvg2-bin). It can be interrupted
# at any time: start it again and it goes on, to the same bytes. The new model is WORK/base.
set -e
here=$(cd "$(dirname "$0")" && pwd)
maquette=${MAQUETTE:-$here/../../build/maquette}
work=${1:-work}
base=${2:-$here/../tiny}
mkdir -p "$work"
cp "$here/package.json" "$work/" && npm install --prefix "$work" --no-audit --no-fund
if [ -n "$VAE" ]; then
    python3 "$here/job.py" --work "$work" --base "$base" --vae
    "$maquette" pretrain "$work/vae-job"
    mkdir -p "$work/given" && cp -r "$work/vae-job/base/." "$work/vae-job/out/vae" "$work/given/"
    base=$work/given
fi
python3 "$here/job.py" --work "$work" --base "$base"
"$maquette" pretrain "$work/job"
mkdir -p "$work/base" && cp -r "$work/job/base/." "$work/job/out/unet" "$work/job/out/text_encoder" "$work/base/"
