#!/usr/bin/env bash
# Train and test a recognizer on a synthetic corpus, from scratch.
#   recipes/synth/run.sh [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 synthesize the corpus, 2 train, 3 evaluate, 4 transcribe.
# SPEAKERS, UTTERANCES (per speaker), DATA and RUN change the corpus and the folders.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
data="${DATA:-data/synth}"
run="${RUN:-runs/synth}"

if at 0 "set up .venv"; then
  bash recipes/setup.sh synth
fi
if at 1 "synthesize the corpus in $data"; then
  make_corpus "$data" asr prepare synth "$data" ${SPEAKERS:+--speakers "$SPEAKERS"} ${UTTERANCES:+--utterances "$UTTERANCES"}
fi
if at 2 "train in $run"; then
  train_run "$run" experiment=synth corpus.dir="$data" ${rest[@]+"${rest[@]}"}
fi
if at 3 "evaluate on held-out speakers and sentences"; then
  asr evaluate "$run/model" "$data/cuts_test.jsonl.gz" --json "$run/test.json"
fi
if at 4 "transcribe a held-out file"; then
  file="$(find "$data/TIMIT/TEST" -name '*.WAV' | grep -v -F -f "$data/dev_speakers.txt" | sort | tail -n 1)"
  asr transcribe --model "$run/model" "$file"
  echo "reference text:   $(cut -d' ' -f3- "${file%.WAV}.TXT")"
  echo "reference phones: $(cut -d' ' -f3 "${file%.WAV}.PHN" | paste -sd' ')"
fi
cat << END
corpus   $data (statistics: $data/stats.json)
model    $run/model (card: $run/model/README.md)
figures  $run/test.json
log      $run/train.log; curves: .venv/bin/tensorboard --logdir $run/tensorboard
next     .venv/bin/asr transcribe --model $run/model YOUR.wav
END
