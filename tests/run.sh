#!/usr/bin/env bash
# Set up .venv, then run all checks: format, lint, types, shell scripts, documentation, tests.
#   tests/run.sh [PYTEST OPTION...]       for example: tests/run.sh -k lstm
# The slow tests: .venv/bin/pytest -m slow. With coverage, which takes half as long again: tests/run.sh --cov
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash recipes/setup.sh synth test
bash tests/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

echo "== format"
ruff format --check .
echo "== lint"
ruff check .
echo "== types"
mypy
echo "== shell scripts"
shellcheck --external-sources recipes/*.sh recipes/*/*.sh tests/*.sh tests/faults/*.sh .ci/run
echo "== documentation"
NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
echo "== tests"
# One thread per worker, so that parallel tests do not compete for cores; tests that need two threads set them.
OMP_NUM_THREADS=1 pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
