#!/bin/sh
# Installs unmasked with its server for processors alone into the environment given; needs no root.
# Usage: docker/install.sh /path/of/new/environment
set -eu
cd "$(dirname "$0")/.."
python3 -m venv "$1"
"$1/bin/pip" install --quiet --no-cache-dir torch torchvision --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
"$1/bin/pip" install --quiet --no-cache-dir ".[serve]"
"$1/bin/unmasked" serve --help >/dev/null
