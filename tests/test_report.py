import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import Browser

from asr.corpus.manifest import Utterance
from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.reports.error_analysis import findings, frequent_confusions, groups, manners, phone_errors
from asr.reports.evaluation import ReportContent, write_report
from asr.reports.figures import draw_groups
from asr.reports.model_report import evaluate_and_report, kept_indices
from asr.reports.run_comparison import report_runs
from asr.scoring.alignment import Counts
from asr.scoring.calibration import Bin
from asr.scoring.conventions import CONVENTIONS
from asr.scoring.error_rate import TranscriptPair, score
from asr.scoring.results import evaluate_hypotheses, write_json
from tests.test_train import run


def utterance(name: str, speaker: str = "s", sex: str = "", seconds: float = 2.0, **details: str) -> Utterance:
    return Utterance(name, Path("a.wav"), 16000, seconds, speaker, (), sex=sex, details=details)


def test_every_phone_has_a_manner() -> None:
    for name in ("timit61", "timit48", "timit39", "arpabet39"):
        assert set(inventory(name).symbols[1:]) <= manners().keys()


def test_phones_and_confusions_worked_by_hand() -> None:
    reference, hypothesis = ["IY", "IY", "IY", "T", "T", "S"], ["IH", "IY", "IY", "T", "S", "S"]
    result = score([("u1", "s", reference, hypothesis), ("u2", "s", ["T", "IY"], ["IH"])], "plain")
    # u1: IY recognized as IH, T as S; u2: T deleted, IY recognized as IH.
    rows = {row.phone: row for row in phone_errors(result)}
    assert list(rows) == ["IY", "IH", "S", "T"]
    assert (rows["IY"].count, rows["IY"].correct, rows["IY"].recognized_as) == (4, 2, [("IH", 2)])
    assert (rows["T"].count, rows["T"].correct, rows["T"].deleted, rows["T"].recognized_as) == (3, 1, 1, [("S", 1)])
    assert (rows["IH"].count, rows["IH"].inserted, rows["S"].correct) == (0, 0, 1)
    assert frequent_confusions(result, 5) == ["IY recognized as IH, 2 of 4", "T recognized as S, 1 of 3"]
    assert frequent_confusions(result, 1) == ["IY recognized as IH, 2 of 4"]


def test_groups_follow_the_manifest() -> None:
    known = [
        utterance("u1", "s1", "f", 0.5, age="6", dialect="DR1"),
        utterance("u2", "s2", "m", 4.0, age="30", dialect="DR1"),
        utterance("u3", "s2", "m", 30.0, age="70"),
    ]
    result = score([(one.id, one.speaker, ["AA"] * 4, ["AA"] * number) for number, one in enumerate(known, 2)], "plain")
    found = groups(result, {one.id: one for one in known})
    assert found == {
        "speaker": {"s1": Counts(0, 2, 0, 4), "s2": Counts(0, 1, 0, 8)},
        "sex": {"female": Counts(0, 2, 0, 4), "male": Counts(0, 1, 0, 8)},
        "length": {
            "under 1 s": Counts(0, 2, 0, 4),
            "3 to 5 s": Counts(0, 1, 0, 4),
            "20 s and more": Counts(0, 0, 0, 4),
        },
        "age": {
            "under 8 years": Counts(0, 2, 0, 4),
            "25 to 40 years": Counts(0, 1, 0, 4),
            "60 years and more": Counts(0, 0, 0, 4),
        },
        "dialect": {"DR1": Counts(0, 3, 0, 8), "not given": Counts(0, 0, 0, 4)},
    }
    assert [list(table) for table in found.values()][2:4] == [
        ["under 1 s", "3 to 5 s", "20 s and more"],
        ["under 8 years", "25 to 40 years", "60 years and more"],
    ]


def test_what_to_fix_first_is_what_costs_most() -> None:
    good = [(f"g{n}", "good", ["AA", "S", "IY", "T"] * 5, ["AA", "S", "IY", "T"] * 5) for n in range(8)]
    bad = [(f"b{n}", "bad", ["AA", "S", "IY", "T"] * 5, ["AA", "IY", "T"] * 5) for n in range(2)]
    result = score([*good, *bad], "plain")
    found = findings(result, groups(result, {one.id: utterance(one.id, one.speaker) for one in result.utterances}))
    # 10 of 200 phones are errors: the bad speaker's S, deleted every time.
    assert [(one.kind, one.gain) for one in found] == [
        ("group", pytest.approx(0.05)),
        ("deletion", pytest.approx(0.05)),
        ("balance", pytest.approx(0.025)),
    ]
    assert found[1].text == "S is deleted 10 of 50 times (20 %), 100.0 % of all errors."
    assert found[0].text.startswith("PER is 25.0 % for speaker bad and 0.0 % for the rest. Closing")
    assert found[2].text.startswith(
        "Deletions (10) and insertions (0) are out of balance. Use a higher phone insertion bonus"
    )
    assert findings(score(good, "plain"), {}) == []


def test_a_confusion_counts_in_both_directions() -> None:
    result = score([("u", "s", ["IY", "S", "IH", "T", "IY"], ["IH", "S", "IY", "T", "IH"])], "plain")
    assert findings(result, {}, 1)[0].text == (
        "IH and IY are confused 3 times (IH recognized as IY: 1, IY recognized as IH: 2), 100.0 % of all errors."
    )


@pytest.mark.parametrize(
    ("convention", "phones", "expected"),
    [
        ("plain", ["AA", "B"], [0, 1]),
        ("kaldi", ["h#", "q", "sh", "q", "pau"], [0, 2, 4]),
        ("merged-sil", ["h#", "pau", "sh", "bcl", "h#", "q"], [0, 2, 3]),
        ("no-sil", ["h#", "sh", "q", "ih"], [1, 3]),
        ("61", ["q", "h#"], [0, 1]),
    ],
)
def test_phones_that_a_convention_keeps(convention: str, phones: list[str], expected: list[int]) -> None:
    assert kept_indices(CONVENTIONS[convention].rule, phones) == expected


@pytest.fixture(scope="module")
def trained(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tone_corpus, tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def page(trained: Path, tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    evaluate_and_report(trained, tone_corpus / "cuts_train.jsonl.gz", out, "cpu", "float32", "best_path")
    return out / "index.html"


def test_a_report_has_every_part_and_needs_no_other_file(page: Path) -> None:
    text = page.read_text()
    titles = re.findall("<h2>(.*)</h2>", text)
    assert titles == [
        "Phone error rate",
        "PER by speaker",
        "Errors by phone",
        "Confusions",
        "Calibration",
        "Learning curves",
        "Worst utterances",
        "Utterances near the median",
        "All utterances",
    ]
    assert text.count("<audio") == 12
    links = re.findall(r'(?:src|href)="([^"]{0,20})', text)
    assert {link.split(":")[0][:1] if link.startswith("#") else link.split(":")[0] for link in links} <= {"data", "#"}
    assert "fitted on a dev set" in text
    assert len(text) < 15e6
    names = {path.name for path in (page.parent / "figures").iterdir()}
    assert {
        "by_speaker.svg",
        "confusions.svg",
        "confusions.csv",
        "reliability.csv",
        "training.svg",
        "utterances.csv",
    } <= names
    for path in (page.parent / "figures").glob("*.svg"):
        ElementTree.parse(path)
    with (page.parent / "figures" / "utterances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    rates = [float(row["PER %"]) for row in rows]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_plays_it_and_sorts_it(browser: Browser, page: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if width < 500 else "light")
    complaints: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    assert tab.evaluate("document.scrollingElement.scrollWidth") == width
    assert tab.evaluate(
        "async () => { const one = document.querySelector('audio'); await one.play();"
        " await new Promise(done => setTimeout(done, 300)); return one.currentTime > 0 }"
    )
    table = tab.locator("table.sortable").first
    column = [row.split("\t") for row in table.locator("tbody").inner_text().splitlines()]
    heading = table.locator("th button").nth(1)
    for click, down in ((1, True), (2, False)):
        heading.click()
        shown = [float(one) for one in table.locator("tbody tr td:nth-child(2)").all_text_contents()]
        assert shown == sorted(shown, reverse=down), click
        assert len(shown) == len(column)
    ink, paper = (tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert ink != paper
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    tab.close()


@pytest.mark.parametrize("number", [0, 1, pytest.param(5000, marks=pytest.mark.slow)])
def test_pages_of_none_one_and_many(number: int, browser: Browser, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    phones = inventory("timit61").symbols[1:]
    utterances: list[TranscriptPair] = []
    for index in range(number):
        reference = [phones[phone] for phone in generator.integers(0, 61, 30)]
        hypothesis = [phone if generator.random() < 0.8 else phones[generator.integers(61)] for phone in reference]
        utterances.append((f"u{index}", f"s{index % 168}", reference, hypothesis))
    evaluation = evaluate_hypotheses(utterances, ["kaldi", "optional-sil", "merged-sil", "no-sil", "61"])
    known = {one[0]: utterance(one[0], one[1], "fm"[index % 2]) for index, one in enumerate(utterances)}
    page = write_report(tmp_path, evaluation, ReportContent("a system", ["some facts"], known))
    assert page.stat().st_size < 15e6
    tab = browser.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(page.as_uri())
    titles = tab.locator("h2").all_text_contents()
    assert ("PER by scoring convention" in titles) == (number > 0)
    assert ("PER by speaker" in titles) == (number > 1)
    if number == 0:
        assert "No utterance was evaluated." in tab.locator("body").inner_text()
    assert complaints == []
    tab.close()


def test_names_of_all_kinds_cannot_break_the_page(tmp_path: Path) -> None:
    name = "</script><b>&\"'"
    evaluation = evaluate_hypotheses([(name, name, ["AA"], ["B"]), ("u2", "t", ["AA"], ["AA"])], ["plain"])
    known = {name: replace(utterance(name, name), details={"L1/../dialect": name}), "u2": utterance("u2")}
    page = write_report(tmp_path, evaluation, ReportContent(name, [name], known))
    assert "</script><b>" not in page.read_text()
    with (tmp_path / "figures" / "by_L1____dialect.csv").open() as file:
        assert [row["L1/../dialect"] for row in csv.DictReader(file)] == [name, "not given"]


def test_bars_of_groups_have_exact_figures() -> None:
    svg = draw_groups({"a": Counts(insertions=12, reference_phones=4), "b": Counts(deletions=1, reference_phones=4)})
    assert " 300.0  (N 4)" in svg
    assert " 25.0  (N 4)" in svg


def test_a_page_about_graphemes_does_not_call_them_phones(tmp_path: Path) -> None:
    evaluation = evaluate_hypotheses([("u", "s", ["a"], ["b"])], ["plain"], notation="graphemes")
    history = [{"epoch": 1, "train_loss": 2.0, "dev_per": 0.5}]
    known = {"u": utterance("u")}
    content = ReportContent(
        "a system", utterances=known, reliability=[Bin(1, 0.5, 0.0)], temperature=1.0, history=history
    )
    page = write_report(tmp_path, evaluation, content).read_text()
    assert "training loss, nats per grapheme" in page
    assert "Recognized graphemes in tenths of confidence" in page
    assert "phone" not in page.lower()


def test_runs_side_by_side(trained: Path, tone_corpus: Path, tmp_path: Path) -> None:
    other = run(tone_corpus, tmp_path / "other", "seed=7", "trainer.epochs=3").parent
    write_json(evaluate_hypotheses([("u", "s", ["AA"], ["B"])], ["plain"]), other / "test.json")
    page = report_runs([trained.parent, other], tmp_path / "page")
    text = page.read_text()
    assert re.findall("<h2>(.*)</h2>", text) == ["Results", "Settings that differ", "Learning curves", "PER by run"]
    with (page.parent / "figures" / "settings.csv").open() as file:
        settings = {row["setting"]: (row[str(trained.parent)], row[str(other)]) for row in csv.DictReader(file)}
    assert settings == {"seed": ("1", "7"), "trainer.epochs": ("2", "3")}
    assert "100.00 plain" in text
    assert "training loss, nats per phone" in text
    with pytest.raises(InputError, match="given twice, expected different runs"):
        report_runs([other, other], tmp_path / "page")
    with pytest.raises(InputError, match=r"no history.json, expected the folder of a finished training run"):
        report_runs([tmp_path], tmp_path / "page")
    (other / "test.json").write_text("{}")
    with pytest.raises(InputError, match=r"test.json: missing or malformed entry \('convention'\)"):
        report_runs([other], tmp_path / "page")
    (other / "history.json").write_text(json.dumps([{"epoch": 1}]))
    with pytest.raises(InputError, match="an epoch lacks one of dev_per, epoch, minutes, train_loss"):
        report_runs([other], tmp_path / "page")
