"""Put a trained model into the package, with a card made from its evaluations.

    python recipes/speechocean762/package.py runs/speechocean762_small_distilled speechocean762-small

RUN is what `EXPERIMENT=speechocean762_small bash recipes/speechocean762/distill.sh CORPUS` leaves. The model is then one of
`asr models`, and its name serves wherever a model is asked for.
"""

import shutil
import sys
from pathlib import Path

from asr.errors import InputError
from asr.inference.bundle import load_bundle
from asr.inference.catalog import available
from asr.nn.acoustic_model import count_parameters
from asr.scoring.results import headline, read_json

MOST_BYTES = 10_000_000
MODELS = Path(__file__).parents[2] / "asr" / "data" / "models"
CITATION = (
    'Zhang et al., "speechocean762: An Open-Source Non-native English Speech Corpus For Pronunciation Assessment", '
    "Interspeech 2021"
)
COMMAND = "EXPERIMENT=speechocean762_small bash recipes/speechocean762/distill.sh PATH/TO/speechocean762"
CARD = """# {name}

English phones (ARPAbet's 39) from the read speech of Mandarin speakers, children and adults: {parameters:,} parameters,
{megabytes:.1f} MB.

| | |
|---|---|
| data | train part of speechocean762 (OpenSLR 101, CC BY 4.0), after speech that espeak-ng made of its words |
| citation | {citation} |
| command | `{command}` |
{results}

The test part is the 10 of its 125 speakers that were at hand. The corpus labels what was to be read, so that a phone said
otherwise counts as an error.

Limits: learnt from one accent of English, read aloud, a few seconds at a time. Expect many more errors of spontaneous
speech, of other accents and languages, and in noise. Confidences were calibrated on the corpus's dev speakers. It is not
fit for decisions about people.
"""


def main(run: Path, name: str) -> None:
    """Copy the model and write its card."""
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
    if size > MOST_BYTES:
        shutil.rmtree(target)
        raise InputError(f"{source}: {size:,} bytes, expected at most {MOST_BYTES:,}")
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
    print(f"{target}: {size / 1e6:.1f} MB; models: {', '.join(available())}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
