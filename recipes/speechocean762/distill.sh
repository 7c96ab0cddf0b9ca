#!/usr/bin/env bash
# Train the best single model on speechocean762: three teachers with different seeds, then a student of all three.
#   recipes/speechocean762/distill.sh CORPUS_DIR [HYDRA OVERRIDE...]
# Overrides go to the student. EXPERIMENT=speechocean762_small trains the small model as the student of the same teachers.
# DATA, RUN and TEACHERS change the folders. Models that are complete are not trained again.
set -euo pipefail
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
  exit 0
fi
recipe="$(dirname "${BASH_SOURCE[0]}")/run.sh"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
experiment="${EXPERIMENT:-speechocean762}"
run="${RUN:-$root/runs/${experiment}_distilled}"
teachers="${TEACHERS:-$root/runs/speechocean762_teacher}"
[[ $teachers == /* ]] || teachers="$PWD/$teachers"
corpus="${1:-}"
overrides=("${@:2}")

models="'$teachers-1/model','$teachers-2/model','$teachers-3/model'" # in quotes, for spaces and umlauts
student=(trainer.epochs=40 trainer.teachers="[$models]" ${overrides[@]+"${overrides[@]}"})

# Check the student's overrides before the teachers are trained.
EXPERIMENT="$experiment" RUN="$run" bash "$recipe" "$corpus" --stop-stage 0 "${student[@]}"
for seed in 1 2 3; do
  teacher="$teachers-$seed"
  stage=$((seed == 1 ? 1 : 3))
  EXPERIMENT=speechocean762 RUN="$teacher" bash "$recipe" "$corpus" --stage "$stage" --stop-stage 4 seed="$seed"
done
EXPERIMENT="$experiment" RUN="$run" bash "$recipe" "$corpus" --stage 3 "${student[@]}"
