#!/usr/bin/env bash
# Train the small recognizer that ships with the package: no pretrained encoder, a student of the bundled `english`. It learns from
# real speech of learners (speechocean762), clean and degraded, and from synthetic speech of recorded and of neural voices.
#   recipes/english/student.sh SPEECHOCEAN762_DIR [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare speechocean762, 2 synthesize speech of espeak-ng, 3 pretrain on it, 4 synthesize speech of recorded
# and of neural voices, 5 degrade the real speech, 6 train, 7 train to make few errors, 8 tune the decoder, 9 evaluate. Overrides
# go to stages 6 and 7; those of the seed and the model also go to stage 3. EXPERIMENT, DATA and RUN change the experiment and the
# folders; HOURS and NEURAL_HOURS the hours of stage 4; KOKORO_VOICES names the folder of Kokoro's voices, which npm fetches
# otherwise; OUT_OF_DOMAIN names further manifests to evaluate on.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
data="${DATA:-data}"
experiment="${EXPERIMENT:-student}"
run="${RUN:-runs/$experiment}"
corpus_argument SPEECHOCEAN762_DIR
shared_overrides ${overrides[@]+"${overrides[@]}"}
real="$data/speechocean762/cuts_train.jsonl.gz"
dev="$data/speechocean762/cuts_dev.jsonl.gz"
[[ $dev == /* ]] || dev="$PWD/$dev"

if at 0 "set up .venv and the synthesizers"; then
  set_up_english "$data"
fi
check_overrides 7 experiment="$experiment" ${overrides[@]+"${overrides[@]}"}
if at 1 "prepare speechocean762 in $data/speechocean762"; then
  make_corpus "$data/speechocean762" asr prepare speechocean762 "$corpus" "$data/speechocean762"
fi
if at 2 "synthesize speech of espeak-ng in $data/speechocean762-made"; then
  lexicon="$corpus/resource/lexicon.txt"
  [[ -f $lexicon ]] || lexicon="$corpus/speechocean762/resource/lexicon.txt"
  make_corpus "$data/speechocean762-made" asr prepare made "$real" "$lexicon" "$data/speechocean762-made"
fi
if at 3 "pretrain in $run-made"; then
  train_run "$run-made" experiment="$experiment" pretraining=made corpus.dir="$data/speechocean762-made" corpus.dev="$dev" \
    ${shared[@]+"${shared[@]}"}
fi
if at 4 "synthesize speech in $data/voices and $data/neural"; then
  make_corpus "$data/voices" asr prepare voices "$data/voices" --hours "${HOURS:-6}" --seed 1 \
    --engines rhvoice,flite,festival,pico,espeak
  make_neural_speech "$data"
fi
if at 5 "degrade the real speech in $data/degraded"; then
  make_corpus "$data/degraded" python recipes/english/degrade.py "$data/degraded" "$real" english
fi
if at 6 "train as a student of english in $run-student"; then
  python recipes/english/mix.py "$data/student/cuts_train.jsonl.gz" "$real=1" "$data/degraded/cuts_train.jsonl.gz=1" \
    "$data/voices/cuts_train.jsonl.gz=0.5" "$data/neural/cuts_train.jsonl.gz=1"
  train_run "$run-student" experiment="$experiment" corpus.dir="$data/student" corpus.dev="$dev" \
    init_from="$run-made/model" trainer.flat_start_epochs=0 trainer.teachers="[english]" trainer.aligner_epochs=0 \
    ${overrides[@]+"${overrides[@]}"}
fi
if at 7 "train to make few errors in $run"; then
  train_run "$run" experiment="$experiment" corpus.dir="$data/student" corpus.dev="$dev" init_from="$run-student/model" \
    trainer.flat_start_epochs=0 trainer.expected_errors=0.7 trainer.epochs=4 optimizer.learning_rate=0.0003 \
    ${overrides[@]+"${overrides[@]}"}
fi
if at 8 "tune the decoder"; then
  make_open_ngram "$run" "$data/neural/cuts_train.jsonl.gz" "$data/voices/cuts_train.jsonl.gz"
  tune_decoder "$run" "$data/speechocean762" --mix "$run/open.arpa" --dev "$dev" --prune 6e-7
fi
if at 9 "evaluate"; then
  evaluate_manifests "$run" "$dev" "$data/speechocean762/cuts_test.jsonl.gz" "$data/voices/cuts_test.jsonl.gz" \
    "$data/neural/cuts_test.jsonl.gz"
fi
