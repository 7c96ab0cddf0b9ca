#!/usr/bin/env bash
# Check the packages in .venv against the databases of known vulnerabilities, with pip-audit in its own environment.
#   tests/faults/audit.sh [PIP-AUDIT OPTION...]        for example: tests/faults/audit.sh --vulnerability-service osv
# Needs the internet: PyPI's JSON interface, or that of OSV. Exits with 1 if a package is vulnerable or cannot be looked up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m pip list --format=freeze --exclude asr-phones --exclude pip --exclude setuptools |
  sed 's/+[a-z0-9.]*$//' > "$folder/installed.txt"
.venv/bin/python -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit
echo "pip-audit of $(wc -l < "$folder/installed.txt") packages, $(date -u +%F)"
"$folder/venv/bin/pip-audit" --requirement "$folder/installed.txt" --strict --no-deps --disable-pip --progress-spinner off "$@"
