"""Units of work on Ray: one local instance for all tests; workers that are killed, fail and cannot start."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr.cli import alignment, evaluation, prepare, transcribe
from asr.cluster import connection, engine
from asr.cluster.actor import Resources, installed_releases
from asr.cluster.connection import connect
from asr.cluster.engine import run_on_cluster
from asr.cluster.nodes import MAX_BLAMES, Nodes
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.inference.units import Outcome, WorkersEndedError, run_here
from tests.faults import cluster as faults
from tests.faults.cluster import ACTOR, Node, free_port, kill

MODEL = "speechocean762-small"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, with room for two workers."""
    pytest.importorskip("ray", reason="NO CLUSTER IS TESTED: pip install 'asr-phones[ray]'")
    with connect("local"):
        yield


def run_all(work: Callable[[int], object], count: int, workers: int = 2) -> dict[int, Outcome[int, object]]:
    """Do units with work that is pickled by value, and check that each has one outcome."""
    outcomes: dict[int, Outcome[int, object]] = {}
    for outcome in run_on_cluster(lambda: work, iter(range(count)), count, Resources(workers=workers)):
        assert outcome.number not in outcomes
        assert outcome.unit == outcome.number
        outcomes[outcome.number] = outcome
    assert sorted(outcomes) == list(range(count))
    return outcomes


@pytest.mark.usefixtures("cluster")
def test_each_unit_has_one_outcome() -> None:
    def work(unit: int) -> int:
        if unit % 3 == 0:
            raise InputError(f"unit {unit}: bad, expected good")
        return unit * unit

    outcomes = run_all(work, 20)
    assert all(outcomes[unit].result == unit * unit for unit in range(20) if unit % 3)
    assert all(str(outcomes[unit].error) == f"unit {unit}: bad, expected good" for unit in range(0, 20, 3))
    assert run_all(work, 0) == {}


@pytest.mark.usefixtures("cluster")
def test_units_are_taken_when_a_worker_is_free() -> None:
    taken = []

    def units() -> Iterator[int]:
        for unit in range(50):
            taken.append(unit)
            yield unit

    outcomes = run_on_cluster(lambda: lambda unit: unit, units(), 50, Resources(workers=1))
    next(outcomes)
    assert len(taken) <= 2
    assert len(list(outcomes)) == 49


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_units_of_killed_workers_are_done_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def work(unit: int) -> int:
        mark = tmp_path / str(unit)
        if unit in (2, 5) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return unit + 1

    outcomes = run_all(work, 8)
    assert {unit: outcome.result for unit, outcome in outcomes.items()} == {unit: unit + 1 for unit in range(8)}
    output = capfd.readouterr()
    assert "2 workers ended, others did their units" in output.err
    assert output.out == "", "standard output is for results"


@pytest.mark.usefixtures("cluster")
def test_a_unit_that_ends_its_workers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_DEATHS", 2)

    def work(unit: int) -> int:
        if unit == 1:
            os._exit(1)
        return unit

    outcomes = run_all(work, 4)
    assert isinstance(outcomes[1].error, WorkersEndedError)
    assert "2 workers ended while they did it" in str(outcomes[1].error)
    assert [outcomes[unit].result for unit in (0, 2, 3)] == [0, 2, 3]


@pytest.mark.usefixtures("cluster")
def test_a_model_that_cannot_be_loaded_is_one_line() -> None:
    def make() -> Callable[[int], int]:
        raise InputError("model: none, expected one")

    with pytest.raises(InputError, match=r"^model: none, expected one$"):
        list(run_on_cluster(make, range(3), 3))


@pytest.mark.usefixtures("cluster")
def test_workers_that_never_start_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_DEATHS", 2)

    def make() -> Callable[[int], int]:
        os._exit(1)

    with pytest.raises(InputError, match="2 workers ended while they started"):
        list(run_on_cluster(make, range(3), 3))


@pytest.mark.usefixtures("cluster")
def test_another_exception_is_a_defect_and_ends_the_run() -> None:
    with pytest.raises(ZeroDivisionError):
        run_all(lambda unit: 1 // unit, 2)


@pytest.mark.usefixtures("cluster")
def test_other_releases_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**installed_releases(), "torch": "1.0"}
    monkeypatch.setattr("asr.cluster.engine.installed_releases", lambda: other)
    with pytest.raises(InputError, match=r"torch .*, expected 1.0 as on the machine of the command"):
        list(run_on_cluster(lambda: abs, range(3), 3))


def make_nodes() -> Nodes:
    found = Nodes(Resources())
    found.names, found.usable = {"a": "1.1.1.1", "b": "2.2.2.2"}, {"a", "b"}
    return found


def test_a_node_whose_units_succeed_elsewhere_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = make_nodes()
    for number in range(MAX_BLAMES):
        failures: dict[str, int] = {}
        found.note_failure("a", failures)
        assert found.note_success("b", failures) == (["a"] if number == MAX_BLAMES - 1 else [])
    found.leave_out("a", InputError("disk: full, expected room"))
    assert capsys.readouterr().err == "asr: 1.1.1.1: left out (disk: full, expected room)\n"
    assert found.options()["label_selector"] == {"ray.io/node-id": "!in(a)"}
    with pytest.raises(InputError, match="disk: full"):
        found.leave_out("b", InputError("disk: full, expected room"))


def test_a_success_clears_a_node_and_an_outage_of_a_store_counts_once() -> None:
    found = make_nodes()
    for _ in range(3 * MAX_BLAMES):
        failures: dict[str, int] = {}
        found.note_failure("a", failures)
        assert found.note_success("b", failures) == []
        assert found.note_success("a", {}) == []
    outage: list[dict[str, int]] = [{} for _ in range(3 * MAX_BLAMES)]
    for failures in outage:
        found.note_failure("a", failures)
    assert [found.note_success("b", failures) for failures in outage] == [[]] * len(outage)


def test_threads_do_units_in_order() -> None:
    def work(unit: int) -> int:
        time.sleep(0.02 * (unit % 3))
        if unit == 4:
            raise InputError("4: bad, expected good")
        return -unit

    outcomes = list(run_here(lambda: work, iter(range(9)), 9, threads=3))
    assert [outcome.number for outcome in outcomes] == list(range(9))
    assert [outcome.result for outcome in outcomes] == [None if unit == 4 else -unit for unit in range(9)]
    assert str(outcomes[4].error) == "4: bad, expected good"


# Connections.


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
@pytest.mark.parametrize("listens", [False, True])
def test_an_address_that_does_not_answer(address: str, listens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there, or somebody who never says anything."""
    pytest.importorskip("ray")
    monkeypatch.setattr(connection, "ANSWER_S", 1.0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        given = address.format(port=server.getsockname()[1])
        with (
            pytest.raises(InputError, match=f"^--cluster {given}: no answer, expected the address of a Ray"),
            connect(given),
        ):
            pass


@pytest.mark.parametrize("address", ["somewhere", "host:name", ":6379"])
def test_an_address_that_is_none(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=f"--cluster {address}, expected local, host:port"), connect(address):
        pass


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    expected = r"--cluster without Ray, expected `pip install 'asr-phones\[ray\]'`"
    with pytest.raises(InputError, match=expected), connect("local"):
        pass


def test_ordinary_commands_do_not_import_ray(tmp_path: Path) -> None:
    program = f"""
import sys
from asr.cli import app
sys.argv = ["asr", "transcribe", "{tmp_path}"]
try:
    app.main()
except SystemExit:
    pass
assert not {{"ray", "grpc", "fsspec"}} & set(sys.modules), "start-up"
"""
    subprocess.run([sys.executable, "-c", program], check=True, stderr=subprocess.DEVNULL)


# The commands do the same with a cluster and without.


@pytest.fixture(scope="module")
def manifest(real_utterances: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real speech, in an order that no command would choose."""
    folder = tmp_path_factory.mktemp("real")
    write_corpus(folder, {"test": sorted(real_utterances[:24], key=lambda utterance: utterance.id[::-1])}, {})
    return folder / "cuts_test.jsonl.gz"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "done.jsonl"
    }


def units_of(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "done.jsonl").read_text().splitlines()
    return sorted((json.loads(line) for line in lines[1:]), key=lambda unit: unit["unit"])


def run(commands: object, *arguments: object) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def own_actors() -> list[int]:
    """The processes that do units for this one: children of a child, which is Ray's."""
    parents, actors = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                if (entry / "cmdline").read_bytes().startswith(ACTOR):
                    actors.append(int(entry.name))
    return [actor for actor in actors if parents.get(parents[actor]) == os.getpid()]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_transcripts_are_the_same_though_a_worker_is_killed(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.inference.sources.UNIT_UTTERANCES", 4)
    arguments = (manifest, "--model", MODEL, "--format", "json", "--format", "ctm", "--out")
    here, there = tmp_path / "here", tmp_path / "there"
    run(transcribe.commands, *arguments, here)
    killed: list[bool] = []

    def kill_a_worker() -> None:
        while not (there / "done.jsonl").exists() or len((there / "done.jsonl").read_text().splitlines()) < 2:
            time.sleep(0.05)
        killed.append(kill(own_actors()[0]))

    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    run(transcribe.commands, *arguments, there, "--cluster", "local")
    thread.join()
    assert killed == [True]
    assert contents(here) == contents(there)
    assert len(contents(here)) == 12
    assert units_of(here) == units_of(there)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_transcripts_of_files_are_the_same(
    real_utterances: list[Utterance],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also with a file that is no audio, and with paths relative to the working directory."""
    monkeypatch.setattr("asr.inference.write_transcripts.UNIT_FILES", 3)
    monkeypatch.chdir(tmp_path)
    Path("audio").mkdir()
    for utterance in real_utterances[:7]:
        Path("audio", utterance.audio_path.name).symlink_to(utterance.audio_path)
    Path("audio/0.wav").write_bytes(b"no audio")
    errors = []
    for out, more in (("here", ()), ("there", ("--cluster", "local"))):
        arguments = ["audio", "--model", MODEL, "--format", "json", "--out", out, *more]
        assert CliRunner().invoke(transcribe.commands, arguments).exit_code == 1
        errors.append(contents(Path(out))["errors.tsv"].decode())
    assert contents(Path("here")) == contents(Path("there"))
    assert len(contents(Path("here"))) == 8
    assert errors[0].splitlines()[1].startswith(f"audio/0.wav\t{tmp_path}/audio/0.wav\taudio that cannot be used\t")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_evaluations_are_the_same(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.inference.evaluate_corpus.BATCH_SECONDS", 20.0)
    texts = []
    for name, more in (("here", ()), ("there", ("--cluster", "local", "--out", tmp_path / "out"))):
        texts.append(run(evaluation.commands, "evaluate", MODEL, manifest, "--json", tmp_path / name, *more))
    assert texts[0] == texts[1]
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert len(units_of(tmp_path / "out")) > 3


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_alignments_are_the_same(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.inference.align_corpus.UNIT_UTTERANCES", 5)
    for name, more in (("here", ()), ("there", ("--cluster", "local"))):
        arguments = ["align", MODEL, str(manifest), "--out", str(tmp_path / name), *more]
        assert CliRunner().invoke(alignment.commands, arguments).exit_code in (0, 1)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert len(contents(tmp_path / "here")) > 20


@pytest.mark.usefixtures("cluster")
def test_preparations_are_the_same(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.pipeline.PrepareOptions.part_items", 5)
    for name, more in (("here", ()), ("there", ("--cluster", "local"))):
        run(prepare.commands, "lhotse", manifest, tmp_path / name, "--split", "train", *more)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert "cuts_train.jsonl.gz" in contents(tmp_path / "here")


SYNTHESES = {
    "synth": ("synth", "{out}", "--speakers", "3", "--utterances", "2"),
    "a language": ("synth", "{out}", "--speakers", "3", "--utterances", "2", "--language", "de", "--text", "{german}"),
    "made": ("made", "{cuts}", "{lexicon}", "{out}", "--speakers", "3", "--utterances", "2"),
    "voices": ("voices", "{out}", "--hours", "0.01", "--engines", "espeak", "--sentences", "{text}"),
}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("arguments", SYNTHESES.values(), ids=list(SYNTHESES))
def test_synthesis_is_the_same(arguments: tuple[str, ...], tone_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="NO SPEECH IS SYNTHESIZED: pip install 'asr-phones[synth]'")
    sentences = [f"the {noun} {verb} every day" for noun in ("house", "cat", "dog") for verb in ("stands", "works")]
    (tmp_path / "text").write_text("".join(f"{sentence}\n" for sentence in sentences))
    sentences = [
        f"{noun} {verb} jeden tag" for noun in ("das haus", "der hund", "die katze") for verb in ("steht", "hilft")
    ]
    (tmp_path / "german").write_text("".join(f"{sentence}\n" for sentence in sentences))
    (tmp_path / "lexicon").write_text("some S AH M\nwords W ER D Z\n")
    paths = {name: tmp_path / name for name in ("text", "german", "lexicon")}
    paths["cuts"] = tone_corpus / "cuts_train.jsonl.gz"
    made = []
    for more in ((), ("--cluster", "local")):
        out = tmp_path / "out"
        run(prepare.commands, *[argument.format(out=out, **paths) for argument in arguments], *more)
        made.append(contents(out))
        shutil.rmtree(out)
    assert made[0] == made[1]
    assert len(made[0]) > 6


def test_a_synthesis_that_is_refused_does_not_wait_for_a_cluster(tmp_path: Path) -> None:
    wrong = ["synth", str(tmp_path / "out"), "--speakers", "4", "--cluster", "127.0.0.1:1"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").touch()
    result = CliRunner().invoke(prepare.commands, wrong)
    assert f"{tmp_path / 'out'}: exists already" in str(result.exception)


@pytest.mark.skipif("ASR_CLUSTER_TESTS" not in os.environ, reason="NO NODES ARE KILLED: set ASR_CLUSTER_TESTS=1")
@pytest.mark.slow
def test_a_cluster_of_two_nodes_that_are_killed(manifest: Path, tmp_path: Path) -> None:
    """Nodes as ``ray start`` makes them; a worker, a node, and a worker killed."""
    command = [sys.executable, "-m", "tests.faults.cluster", str(manifest), "--kills", "3", "--unit-utterances", "2"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nodes killed; 12 units noted down" in result.stdout  # fewer kills if the work is done before
    assert "kill 1 (worker)" in result.stdout


@pytest.mark.skipif("ASR_CLUSTER_TESTS" not in os.environ, reason="NO NODE FAILS: set ASR_CLUSTER_TESTS=1")
@pytest.mark.slow
def test_the_unit_of_a_job_with_one_worker_is_tried_on_another_node(tmp_path: Path) -> None:
    """Nodes as ``ray start`` makes them. The unit fails on the node that has it first."""
    with tempfile.TemporaryDirectory() as folder:  # Ray's sockets want a short path
        nodes = [Node(Path(folder), port := free_port(), head=True)]
        try:
            nodes.append(Node(Path(folder), port, head=False))
            call = [sys.executable, "-c", FAILING_NODE, f"127.0.0.1:{port}", str(tmp_path / "node")]
            done = subprocess.run(call, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=120)
            assert done.returncode == 0, done.stderr
            assert done.stdout == "None\n"
            assert "waiting for a worker on another one" in done.stderr
        finally:
            for node in reversed(nodes):
                node.kill()


FAILING_NODE = """
import sys
from pathlib import Path
from asr.cluster.connection import connect
from asr.cluster.engine import run_on_cluster
from asr.errors import InputError

address, first = sys.argv[1], Path(sys.argv[2])

def work(unit):
    import ray
    node = ray.get_runtime_context().get_node_id()
    if not first.exists():
        first.write_text(node)
    if first.read_text() == node:
        raise InputError(f"unit {unit}: no space left on device, expected some")

with connect(address):
    for outcome in run_on_cluster(lambda: work, range(1), 1):
        print(outcome.error)
"""


@pytest.mark.skipif("ASR_CLUSTER_TESTS" not in os.environ, reason="RAY'S CLIENT IS NOT TESTED: set ASR_CLUSTER_TESTS=1")
@pytest.mark.slow
def test_transcripts_through_rays_client_are_the_same(manifest: Path, tmp_path: Path) -> None:
    """A node as ``ray start`` makes it; a wrong port of it is named at once."""
    with tempfile.TemporaryDirectory() as folder:  # Ray's sockets want a short path
        node = Node(Path(folder), gcs_port := free_port(), head=True)
        try:
            for name, address, status in (
                ("here", "", 0),
                ("there", f"ray://127.0.0.1:{node.client_port}", 0),
                ("wrong", f"ray://127.0.0.1:{gcs_port}", 2),
            ):
                call = faults.command(MODEL, [manifest], tmp_path / name, *(["--cluster", address] if address else []))
                done = subprocess.run(call, capture_output=True, text=True)
                assert done.returncode == status, done.stderr
            assert f"ray://127.0.0.1:{gcs_port}: no Ray (UNIMPLEMENTED)" in done.stderr
        finally:
            node.kill()
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
