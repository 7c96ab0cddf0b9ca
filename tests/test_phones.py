from pathlib import Path

import pytest

from asr.corpus.phones import BLANK, INVENTORIES, fold_timit, inventory, timit_folding
from asr.errors import InputError

SHARED_TABLE = Path(__file__).parents[2] / "shared/timit/phones.61-48-39.tsv"


@pytest.mark.parametrize(("name", "phones"), [("timit61", 61), ("timit48", 48), ("timit39", 39), ("arpabet39", 39)])
def test_sizes_and_order(name: str, phones: int) -> None:
    symbols = inventory(name).symbols
    assert symbols[0] == BLANK
    assert len(symbols) == phones + 1
    assert list(symbols[1:]) == sorted(set(symbols[1:]))


def test_every_inventory_encodes_and_decodes_its_own_symbols() -> None:
    for name in INVENTORIES:
        phones = inventory(name)
        own = [symbol for symbol in phones.symbols[1:] if phones.mapping.get(symbol) == symbol]
        assert phones.decode(phones.encode(own, "u")) == own


def test_folding_by_hand() -> None:
    # Lee and Hon: closures and pauses become silence, zh becomes sh, the flap stays, the glottal stop is dropped.
    assert fold_timit(["h#", "tcl", "t", "ix", "q", "zh", "axr", "dx", "hv", "em", "nx", "ux", "pau", "ao", "epi"]) == (
        ["sil", "sil", "t", "ih", "sh", "er", "dx", "hh", "m", "n", "uw", "sil", "aa", "sil"]
    )
    assert inventory("timit48").decode(inventory("timit48").encode(["bcl", "b", "q", "ax-h"], "u")) == [
        "vcl",
        "b",
        "ax",
    ]
    assert fold_timit(["cl", "vcl", "ax", "sil", "zh", "ao"]) == ["sil", "sil", "ah", "sil", "sh", "aa"]
    assert set(fold_timit(sorted(timit_folding()))) == set(inventory("timit39").symbols[1:])


def test_table_is_the_published_one() -> None:
    if not SHARED_TABLE.is_file():
        pytest.skip(f"FOLDING IS NOT COMPARED: no table at {SHARED_TABLE}")
    rows = [line.split() for line in SHARED_TABLE.read_text().splitlines() if not line.startswith("#")]
    folding = {phone: (modelled or "-", scored or "-") for phone, (modelled, scored) in timit_folding().items()}
    assert {phone: (modelled, scored) for phone, modelled, scored in rows} == folding


def test_unknown_phones_are_named() -> None:
    with pytest.raises(InputError, match="utterance X1: unknown phone 'AA', expected one of the 61 phones"):
        inventory("timit61").encode(["aa", "AA"], "X1")
    with pytest.raises(InputError, match="unknown TIMIT phone 'AA'"):
        fold_timit(["AA"])
    with pytest.raises(InputError, match="unknown phone inventory 'klingon'"):
        inventory("klingon")
