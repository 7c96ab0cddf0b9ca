"""Copy a trained model into the package and write its card from its evaluations.

    python recipes/speechocean762/package.py runs/speechocean762_small_distilled speechocean762-small

The first argument is the run folder of `EXPERIMENT=speechocean762_small bash recipes/speechocean762/distill.sh CORPUS`, the
second the name of the bundled model: `asr models` lists it, and every command accepts it as a model.
"""

import shutil
import sys
from pathlib import Path

from asr.errors import InputError
from asr.inference.bundle import load_bundle
from asr.inference.catalog import bundled_models
from asr.nn.acoustic_model import count_parameters
from asr.scoring.results import headline, read_json

MAX_BYTES = 10_000_000
MODELS = Path(__file__).parents[2] / "asr" / "data" / "models"
CITATION = (
    'Zhang et al., "speechocean762: An Open-Source Non-native English Speech Corpus For Pronunciation Assessment", '
    "Interspeech 2021"
)
COMMAND = "EXPERIMENT=speechocean762_small bash recipes/speechocean762/distill.sh PATH/TO/speechocean762"
CARD = """# {name}

Recognizes the 39 phones of ARPAbet in English. Trained on the read speech of Mandarin speakers, children and adults:
{parameters:,} parameters, {megabytes:.1f} MB.

| | |
|---|---|
| data | train part of speechocean762 (OpenSLR 101, CC BY 4.0) |
| pretraining | synthetic speech: espeak-ng reads sentences made of the train part's words |
| citation | {citation} |
| command | `{command}` |
{results}

The test set is 10 of the 125 speakers of the corpus's test part; the others were not available. The labels are the phones
of the prompts, so a phone that a speaker pronounced differently counts as an error.

Limitations: the model learned from one accent of English, read aloud, in utterances of a few seconds. Expect many more
errors on spontaneous speech, on other accents and languages, and in noise. Confidences were calibrated on the dev speakers
of the corpus. The model is not fit for decisions about people.
"""


def main(run: Path, name: str) -> None:
    """Copy the model to the package and write its card."""
    source, target = run / "model", MODELS / name
    results = [
        f"| {path.stem.replace('_', ' ')} | {headline(read_json(path).headline)} |"
        for path in sorted(run.glob("*_*.json"))
    ]
    if not results:
        raise InputError(f"{run}: no evaluations, expected those of the recipe's last stage")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    size = sum(path.stat().st_size for path in target.iterdir())
    if size > MAX_BYTES:
        shutil.rmtree(target)
        raise InputError(f"{source}: {size:,} bytes, expected at most {MAX_BYTES:,}")
    parameters = count_parameters(load_bundle(source).model)
    card = CARD.format(
        name=name,
        parameters=parameters,
        megabytes=size / 1e6,
        citation=CITATION,
        command=COMMAND,
        results="\n".join(results),
    )
    (target / "README.md").write_text(card, encoding="utf-8")
    print(f"{target}: {size / 1e6:.1f} MB; models: {', '.join(bundled_models())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
