"""What users install and run: the recipe end to end, and the wheel in a separate environment."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SHORT = ("model.hidden=8", "model.layers=1", "trainer.epochs=1", "trainer.flat_start_epochs=1")


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_the_same_bytes_wherever_and_whenever_it_is_built(wheel: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("asr", "data_prep", "conf"):
        shutil.copytree(ROOT / name, elsewhere / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, elsewhere)
    for file in elsewhere.rglob("*"):
        os.utime(file, (10**9, 10**9))
        file.chmod(0o700 if file.is_dir() else 0o600)
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, elsewhere)
    run("sh", "-c", 'umask 077; exec "$@"', "sh", *build, cwd=tmp_path)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_every_dependency_has_a_lowest_and_a_highest_release() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    listed = [project["dependencies"], settings["build-system"]["requires"], *project["optional-dependencies"].values()]
    wanted = [Requirement(line) for lines in listed for line in lines]
    assert len(wanted) > 30
    for one in wanted:
        bounds = {part.operator for part in one.specifier}
        closed = bounds & {"==", "~="} or (bounds & {">=", ">"} and bounds & {"<", "<="})
        assert closed or one.name == project["name"], f"{one} lacks a lowest or a highest release"


def try_out(asr: Path, folder: Path) -> None:
    """Prepare, train, evaluate and transcribe in a folder outside the repository."""
    run(asr, "prepare", "synth", "data", "--speakers", 3, "--utterances", 2, cwd=folder)
    run(asr, "train", "experiment=synth", "corpus.dir=data", "run_dir=run", *SHORT, cwd=folder)
    evaluated = run(asr, "evaluate", "run/model", "data/cuts_test.jsonl.gz", "--json", "per.json", cwd=folder)
    assert "PER" in evaluated.stdout
    assert json.loads((folder / "per.json").read_text())["utterances"] == 2
    assert len(run(asr, "transcribe", "--model", "run/model", "data/TIMIT/TEST", cwd=folder).stdout.splitlines()) == 4


def distributions_for(wanted: Requirement, found: dict[str, metadata.Distribution]) -> None:
    """Add what a requirement needs, and what that needs, to the distributions found so far."""
    if not wanted.extras and wanted.name in found:
        return
    distribution = found[wanted.name] = metadata.distribution(wanted.name)
    for line in distribution.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted.extras | {""}):
            distributions_for(requirement, found)


@pytest.mark.slow
def test_the_wheel_works_with_nothing_but_what_it_declares(wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    found: dict[str, metadata.Distribution] = {}
    distributions_for(Requirement("asr-phones[synth]"), found)
    del found["asr-phones"]
    here = Path(sysconfig.get_path("purelib"))
    # Links instead of another installation of several GB.
    for name in {path.parts[0] for one in found.values() for path in one.files or ()} - {"..", "__pycache__"}:
        if not (site / name).exists():
            (site / name).symlink_to(here / name)
    for undeclared in ("pytest", "transformers", "ray", "onnx"):
        assert not (site / undeclared).exists()
    (tmp_path / "elsewhere").mkdir()
    where = run(python, "-c", "import asr, data_prep; print(asr.__file__, data_prep.__file__)", cwd=tmp_path)
    assert where.stdout.count(str(site)) == 2
    try_out(tmp_path / "venv" / "bin" / "asr", tmp_path / "elsewhere")


@pytest.mark.slow
def test_the_recipe_end_to_end_and_again(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")
    places = {"DATA": "data", "RUN": "run", "SPEAKERS": "3", "UTTERANCES": "2"}
    recipe = ("bash", ROOT / "recipes" / "synth" / "run.sh", "--stage", 1)
    done = run(*recipe, *SHORT, cwd=tmp_path, **places)
    for expected in ("== stage 1", "== stage 4", "PER ", "reference text: ", f"model    {tmp_path / 'run' / 'model'}"):
        assert expected in done.stdout
    assert json.loads((tmp_path / "run" / "test.json").read_text())["utterances"] == 2
    again = run(*recipe, *SHORT, cwd=tmp_path, **places)
    assert "already exists; remove" in again.stdout
    last = run(*recipe, "--stage", 4, "--stop-stage", 4, cwd=tmp_path, **places)
    assert "== stage 3" not in last.stdout


SCRIPTS = ["synth/run.sh", "timit/run.sh", "speechocean762/run.sh", "english/run.sh", "english/student.sh"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_recipes_explain_themselves_and_refuse_what_they_do_not_know(script: str, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / script
    assert f"recipes/{script}" in run("bash", recipe, "--help", cwd=tmp_path).stdout
    for arguments, message in ((["--stages", "1"], "unknown option --stages"), (["--stage", "x"], "--stage is 'x'")):
        refused = subprocess.run(["bash", recipe, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert refused.returncode == 2
        assert message in refused.stderr
    if script != "synth/run.sh":
        refused = subprocess.run(["bash", recipe, "--stage", "1"], cwd=tmp_path, capture_output=True, text=True)
        assert (refused.returncode, refused.stderr.endswith("_DIR, expected the folder of the corpus\n")) == (2, True)
        # Without the folder of the corpus, the first override would be taken for it and get lost.
        refused = subprocess.run(
            ["bash", recipe, "seed=2", "--stage", "4"], cwd=tmp_path, capture_output=True, text=True
        )
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert f"_DIR is {tmp_path}/seed=2, no such folder" in refused.stderr
    for file in ("README.md", "RESULTS.md"):
        assert (recipe.parent / file).is_file()


@pytest.mark.parametrize(
    ("recipe", "stage"),
    [
        ("timit/run", 1),
        ("speechocean762/run", 1),
        ("languages/run", 1),
        ("languages/run", 3),
        ("folder/run", 1),
        ("streaming/run", 1),
        ("english/run", 1),
        ("english/run", 13),
        ("english/student", 1),
        ("english/student", 4),
    ],
)
def test_recipes_check_overrides_before_they_make_anything(recipe: str, stage: int, tmp_path: Path) -> None:
    corpus = ["de"] if recipe == "languages/run" else [str(tmp_path)]
    command = ["bash", str(ROOT / "recipes" / f"{recipe}.sh"), *corpus, "--stage", str(stage), "trainer.epoch=1"]
    places = {"DATA": str(tmp_path / "data"), "RUN": str(tmp_path / "run")}
    refused = subprocess.run(command, env=os.environ | places, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "Could not override 'trainer.epoch'" in refused.stderr
    assert not [*tmp_path.iterdir()]


def test_folders_and_manifests_are_relative_to_where_the_recipe_was_started(tmp_path: Path) -> None:
    stages, given = (
        ROOT / "recipes" / "stages.sh",
        {"DATA": "my data", "RUN": "/run", "OUT_OF_DOMAIN": "a.jsonl.gz /b.jsonl.gz"},
    )
    script = f'source "{stages}"; cd /; asr() {{ echo "$*"; }}; echo "$DATA $RUN"; evaluate_manifests run'
    folders, *evaluated = run("bash", "-c", script, cwd=tmp_path, **given).stdout.splitlines()
    assert folders == f"{tmp_path}/my data /run"
    for manifest, line in zip((f"{tmp_path}/a.jsonl.gz", "/b.jsonl.gz"), evaluated[1::4], strict=True):
        assert line.startswith(f"evaluate run/model {manifest} --decoder best_path ")


@pytest.mark.parametrize(
    ("split", "last", "lacks"),
    [
        ("train", "99", "dev"),
        ("train", "1", ""),
        ("test=list", "2", "dev"),
        ("dev=0.2", "3", "test"),
        ("dev=0.2", "2", ""),
        ("dev=0.2, test=list", "99", ""),
        ("own", "99", ""),
        ("own,dev=0.1", "99", ""),
    ],
)
def test_the_recipe_of_a_folder_needs_the_sets_of_its_stages(split: str, last: str, lacks: str, tmp_path: Path) -> None:
    recipe = str(ROOT / "recipes" / "folder" / "run.sh")
    command = ["bash", recipe, str(tmp_path), "--stage", "1", "--stop-stage", last, "trainer.epoch=1"]
    refused = subprocess.run(command, env=os.environ | {"SPLIT": split}, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    found = f"SPLIT is {split}, without a {lacks} set, " if lacks else "Could not override 'trainer.epoch'"
    assert found in refused.stderr
    assert not [*tmp_path.iterdir()]


def test_a_language_that_starts_from_english_is_one_that_is_made(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "recipes" / "languages" / "run.sh"), "de", "--stage", "1"]
    places = {"DATA": str(tmp_path / "data"), "FROM_ENGLISH": "hi"}
    refused = subprocess.run(command, env=os.environ | places, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "FROM_ENGLISH is hi, expected one of the languages: de" in refused.stderr


def test_synthesizers_are_tried_in_the_environment_of_the_repository_from_any_folder(tmp_path: Path) -> None:
    script = tmp_path / "recipes" / "english" / "synthesizers.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "english" / "synthesizers.sh", script)
    programs, others = tmp_path / ".venv" / "bin", tmp_path / "others"  # the latter fail
    for folder, end in ((programs, ""), (others, "exit 1\n")):
        folder.mkdir(parents=True)
        for name in ("dpkg-query", "apt-get", "python", "asr"):
            (folder / name).write_text(f'#!/bin/sh\necho "$0 $*"\n{end}')
            (folder / name).chmod(0o755)
    (tmp_path / "elsewhere" / "kokoro" / "package" / "voices").mkdir(parents=True)
    path = f"{others}:{os.environ['PATH']}"
    done = run("bash", script, "kokoro", cwd=tmp_path / "elsewhere", PATH=path).stdout.splitlines()
    assert done[-2] == "synthesizers: trying them"
    assert done[-1].startswith(f"{programs / 'asr'} prepare voices ")


def test_distillation_trains_three_teachers_and_a_student_of_them(tmp_path: Path) -> None:
    distill = shutil.copy(ROOT / "recipes" / "speechocean762" / "distill.sh", tmp_path)
    (tmp_path / "run.sh").write_text('echo "$EXPERIMENT $RUN $*"\n')
    places = {"EXPERIMENT": "speechocean762_small", "RUN": "runs/a", "TEACHERS": "runs/t"}
    checked, *done = run("bash", distill, "corpus", "model.hidden=8", cwd=tmp_path, **places).stdout.splitlines()
    models = ",".join(f"'{tmp_path}/runs/t-{seed}/model'" for seed in (1, 2, 3))
    student = f"trainer.epochs=40 trainer.teachers=[{models}] model.hidden=8"
    assert checked == f"speechocean762_small runs/a corpus --stop-stage 0 {student}"
    teachers = [f"speechocean762 {tmp_path}/runs/t-{seed} corpus --stage" for seed in (1, 2, 3)]
    assert done == [
        f"{teachers[0]} 1 --stop-stage 4 seed=1",
        f"{teachers[1]} 3 --stop-stage 4 seed=2",
        f"{teachers[2]} 3 --stop-stage 4 seed=3",
        f"speechocean762_small runs/a corpus --stage 3 {student}",
    ]


def test_set_up_does_nothing_when_current(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "installed").is_file():
        pytest.skip("NOT TESTED: there is no .venv of recipes/setup.sh")
    before = (ROOT / ".venv" / "installed").stat().st_mtime_ns
    assert run("bash", ROOT / "recipes" / "setup.sh", "synth", "test", cwd=tmp_path).stdout == ""
    assert (ROOT / ".venv" / "installed").stat().st_mtime_ns == before
