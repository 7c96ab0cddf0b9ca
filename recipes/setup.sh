#!/usr/bin/env bash
# Create the virtual environment .venv at the top of the repository and install asr into it, with the given extras.
#   recipes/setup.sh [EXTRA...]          for example: recipes/setup.sh synth test
# Does nothing if .venv is up to date. PYTHON=/path/to/python chooses the interpreter (3.11 to 3.13).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/installed
checksum="$(cksum < pyproject.toml)"

is_current() {
  [[ -x .venv/bin/asr && -f $stamp ]] || return 1
  [[ $(head -n 1 "$stamp") == "$checksum" ]] || return 1
  local extra
  for extra in "$@"; do
    grep -qx "$extra" "$stamp" || return 1
  done
}

is_usable() { # a Python 3.11 to 3.13 that can create virtual environments
  "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' > /dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3.13 python3 python; do
    if is_usable "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  echo "setup: found no Python 3.11 to 3.13 with venv and ensurepip; install one, or give its path: PYTHON=/path/to/python" >&2
  exit 2
}

if is_current "$@"; then
  exit 0
fi
if ! [[ -x .venv/bin/python ]] || ! is_usable .venv/bin/python; then
  python="$(find_python)"
  echo "setup: creating .venv with $python"
  "$python" -m venv --clear .venv
fi
# Keep the extras of earlier calls.
extras="$({ [[ -f $stamp ]] && tail -n +2 "$stamp"; printf '%s\n' "$@"; } | sort -u | sed '/^$/d')"
echo "setup: installing asr${extras:+ with extras: ${extras//$'\n'/, }} (downloads several GB the first time)"
rm -f "$stamp"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extras:+[${extras//$'\n'/,}]}"
printf '%s\n' "$checksum" ${extras:+"$extras"} > "$stamp"
echo "setup: done, .venv/bin/asr is ready"
