"""Print the audio files of a manifest, each once and followed by a NUL, for `mapfile -d ''`.

python recipes/folder/recordings.py data/folder/cuts_test.jsonl.gz
"""

import sys
from pathlib import Path

from asr.corpus.manifest import read_manifest

for path in dict.fromkeys(utterance.audio_path for utterance in read_manifest(Path(sys.argv[1]))):
    print(path, end="\0")
