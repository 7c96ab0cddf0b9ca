#!/usr/bin/env bash
# Train and test a small recognizer on synthetic speech of each of some languages, and one from an English model.
#   recipes/languages/run.sh [LANGUAGE...] [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Languages are espeak-ng's; by default de cmn hi sw. Stages: 0 set up, 1 synthesize, 2 train from scratch, 3 evaluate, 4 train
# FROM_ENGLISH (default: the first language) from the bundled model speechocean762-small, 5 evaluate and compare with scratch.
# TEXTS/LANGUAGE.txt has the sentences of a language, if it exists. SPEAKERS, UTTERANCES (per speaker), DATA and RUN change the
# corpora and the folders.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
data="${DATA:-data/languages}"
run="${RUN:-runs/languages}"
texts="${TEXTS:-$data/texts}"
languages=() overrides=()
for argument in ${rest[@]+"${rest[@]}"}; do
  if [[ $argument == *=* ]]; then overrides+=("$argument"); else languages+=("$argument"); fi
done
((${#languages[@]})) || languages=(de cmn hi sw)
from_english="${FROM_ENGLISH:-${languages[0]}}"
if [[ " ${languages[*]} " != *" $from_english "* && ! -d $data/$from_english ]]; then
  echo "$0: FROM_ENGLISH is $from_english, expected one of the languages: ${languages[*]}" >&2
  exit 2
fi

if at 0 "set up .venv"; then
  bash recipes/setup.sh synth languages ipa
fi
check_overrides 4 experiment=synth_language ${overrides[@]+"${overrides[@]}"}
if at 1 "synthesize ${languages[*]} in $data"; then
  for language in "${languages[@]}"; do
    text=()
    [[ ! -f $texts/$language.txt ]] || text=(--text "$texts/$language.txt")
    make_corpus "$data/$language" asr prepare synth "$data/$language" --language "$language" ${text[@]+"${text[@]}"} \
      ${SPEAKERS:+--speakers "$SPEAKERS"} ${UTTERANCES:+--utterances "$UTTERANCES"}
  done
fi
if at 2 "train from scratch in $run"; then
  for language in "${languages[@]}"; do
    train_run "$run/$language" experiment=synth_language corpus.dir="$data/$language" ${overrides[@]+"${overrides[@]}"}
  done
fi
if at 3 "evaluate on held-out speakers and sentences"; then
  for language in "${languages[@]}"; do
    echo "-- $language"
    asr evaluate "$run/$language/model" "$data/$language/cuts_test.jsonl.gz" --json "$run/$language/test.json"
  done
fi
if at 4 "train $from_english from English in $run/$from_english-from-english"; then
  train_run "$run/$from_english-from-english" experiment=synth_language corpus.dir="$data/$from_english" \
    init_from=speechocean762-small ${overrides[@]+"${overrides[@]}"}
fi
if at 5 "evaluate $from_english from English, and compare"; then
  started="$run/$from_english-from-english"
  asr evaluate "$started/model" "$data/$from_english/cuts_test.jsonl.gz" --json "$started/test.json"
  asr compare "$run/$from_english/test.json" "$started/test.json"
  grep -h "epoch .*dev PER" "$run/$from_english/train.log" "$started/train.log"
fi
