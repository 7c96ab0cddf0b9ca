#!/usr/bin/env bash
# A search of 64 short trainings on real speech with pruning: a tenth of the train part, half of the dev part, four epochs each.
#   recipes/cluster/study.sh DATA PRETRAINED RUN [OVERRIDE...]
# DATA is the prepared speechocean762, PRETRAINED the small model pretrained on synthetic speech, RUN the folder of the study.
# Run it again, or in other terminals with the same RUN, for more workers on the same study.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
export PATH="$root/.venv/bin:$PATH"
if (($# < 3)); then
  echo "$0: arguments are '$*', expected DATA PRETRAINED RUN [OVERRIDE...]" >&2
  exit 2
fi
data=$1 pretrained=$2 run=$3
shift 3
for part in train dev; do
  [[ -f $data/cuts_$part.jsonl.gz ]] || { echo "$0: $data has no cuts_$part.jsonl.gz, expected the prepared corpus" >&2; exit 2; }
done
mkdir -p "$run/data"
if ! [[ -f $run/data/cuts_dev.jsonl.gz ]]; then
  zcat "$data/cuts_train.jsonl.gz" | awk 'NR % 10 == 0' | gzip -n > "$run/data/cuts_train.jsonl.gz"
  zcat "$data/cuts_dev.jsonl.gz" | awk 'NR % 2 == 0' | gzip -n > "$run/data/cuts_dev.jsonl.gz"
fi
asr train -m sweep=speechocean762 experiment=speechocean762_small corpus.dir="$run/data" init_from="$pretrained" run_dir="$run" \
  trainer.flat_start_epochs=0 trainer.epochs=4 trainer.average=last trainer.average_count=1 trainer.aligner_epochs=0 \
  trainer.threads=1 'trainer.trackers=[]' search.trials=64 search.study=short "$@"
echo "python $root/recipes/speechocean762/plot_study.py $run/study.db study.svg draws it"
