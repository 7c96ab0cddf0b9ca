"""Files for contributors and continuous integration agree with the repository."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FORMS = [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "accuracy", "feature")]
PRE_COMMIT = ROOT / ".pre-commit-config.yaml"
WORKFLOW = GITHUB / "workflows" / "ci.yml"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    found = job["steps"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("package", ["asr", "data_prep"])
def test_the_wheel_says_that_a_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").read_bytes() == b""
    shipped = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert f"{package}/__init__.py" in shipped
    assert f"{package}/py.typed" in shipped


@pytest.mark.parametrize("path", [PRE_COMMIT, *sorted(GITHUB.rglob("*.y*ml"))], ids=lambda path: path.name)
def test_settings_of_the_repository_are_yaml_mappings(path: Path) -> None:
    assert isinstance(load(path), dict)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_demands(path: Path) -> None:
    form = load(path)
    assert form["name"]
    assert form["description"]
    fields = [element for element in form["body"] if element["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"checkboxes", "dropdown", "input", "textarea"}
    assert len({field["id"] for field in fields}) == len(fields) > 0
    labels = [field["attributes"]["label"] for field in fields]
    assert len(set(labels)) == len(labels)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_the_workflow_checks_both_systems_and_three_pythons() -> None:
    workflow = load(WORKFLOW)
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true
    job = workflow["jobs"]["checks"]
    assert job["runs-on"] == "${{ matrix.system }}"
    assert set(job["strategy"]["matrix"]) == {"system", "python"}, "a cell may be excluded"
    assert job["strategy"]["matrix"]["system"] == ["ubuntu-latest", "macos-latest"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    (python,) = (step for step in steps(job) if step.get("uses", "").startswith("actions/setup-python@"))
    assert python["with"]["python-version"] == "${{ matrix.python }}"
    (check,) = (step for step in steps(job) if step.get("run") == "bash .ci/run")
    assert check["env"] == {"PYTHON": f"${{{{ steps.{python['id']}.outputs.python-path }}}}"}
    assert not {"if", "continue-on-error"} & {*check, *job}


def test_the_workflow_uploads_wheel_and_sdist() -> None:
    *_, build, upload = steps(load(WORKFLOW)["jobs"]["packages"])
    assert build["run"].splitlines()[-1] == "python -m build"
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["with"]["path"] == "dist/*"


def test_actions_are_pinned_to_a_major_release() -> None:
    used = [step["uses"] for job in load(WORKFLOW)["jobs"].values() for step in steps(job) if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", action), action


def static_checks() -> list[list[str]]:
    """Read the commands between the headings "format" and "documentation" in tests/run.sh, split into words."""
    script = (ROOT / "tests" / "run.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    _, _, after = script.partition('echo "== format"\n')
    between, heading, _ = after.partition('echo "== documentation"\n')
    assert heading, "tests/run.sh: headings not found, expected '== format' and, after it, '== documentation'"
    lines = [shlex.split(line, comments=True) for line in between.splitlines()]
    return [words for words in lines if words and words[0] != "echo"]


def test_pre_commit_runs_the_static_checks() -> None:
    (repository,) = load(PRE_COMMIT)["repos"]
    assert repository["repo"] == "local"
    commands = []
    for hook in repository["hooks"]:
        assert (hook["language"], hook["pass_filenames"], hook["always_run"]) == ("system", False, True)
        words = shlex.split(hook["entry"])
        if words[:2] == ["bash", "-c"]:
            words = shlex.split(words[2])
        assert words[0].startswith(".venv/bin/"), hook["entry"]
        commands.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    assert {words[0] for words in commands} == {"ruff", "mypy", "shellcheck"}
    assert commands == static_checks()


def paths_in(text: str) -> set[str]:
    """Find words that look like paths in the repository: in backticks, indented commands and relative links."""
    code = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^ {4}(?!.*<-)(.*)$", text, re.MULTILINE)]
    words = {word for span in code for word in span.split("#")[0].split()}
    words |= {target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target}
    looks = re.compile(r"[\w.*-]+(/[\w.*-]*)+|[\w*-]+\.(md|py|sh|toml|ya?ml)")
    return {word for word in words if looks.fullmatch(word) and not word.startswith(".venv/")}


def test_paths_are_found_in_prose_commands_and_links() -> None:
    text = "Run `bash a/b.sh`, see `c.md`, [d](e/f.md), [g](https://h.example/i.md), `x.y`.\n\n"
    text += "    .venv/bin/x j/k.py  # l.md\n"
    assert paths_in(text) == {"a/b.sh", "c.md", "e/f.md", "j/k.py"}


@pytest.mark.parametrize("path", [CONTRIBUTING, GITHUB / "PULL_REQUEST_TEMPLATE.md"], ids=lambda path: path.stem)
def test_documents_name_files_that_exist(path: Path) -> None:
    named = paths_in(path.read_text(encoding="utf-8"))
    assert {"tests/run.sh", "CHANGELOG.md"} <= named
    assert [name for name in sorted(named) if not any(ROOT.glob(name))] == []


def test_contributing_names_every_package() -> None:
    lines = CONTRIBUTING.read_text(encoding="utf-8").splitlines()
    (index,) = (index for index, line in enumerate(lines) if "<-" in line)
    named = re.findall(r"\w+", lines[index] + lines[index + 1])
    packages = {path.parent.name for path in (ROOT / "asr").glob("*/__init__.py")}
    assert sorted(named) == sorted(packages | {"config", "errors"})
