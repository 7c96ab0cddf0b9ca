"""The parts of the site that the code and ``conf/`` already say: generated when mkdocs builds, never committed.

- ``reference/configuration.md`` from the dataclasses in `asr.config`, the values in ``conf/`` and ``docs/settings.yaml``
- ``reference/commands.md`` from the typer application `asr.cli.app`
- ``reference/packages/NAME.md``, one page a package, for mkdocstrings to fill
- the recipes' and benchmarks' own documents, at the paths they have in the repository

Links in all documents are those of the repository, where they work too; on the site they lead to the pages.
"""

import re
from ast import Assign, get_docstring, literal_eval, parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from os.path import normpath, relpath
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import typer
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from asr.cli.app import app
from asr.cli.compose import compose
from asr.config import VARIANTS, BeamConfig, TrainConfig, config_dir

ROOT = Path(__file__).parents[1]
MOUNTED = (
    "recipes/*/*.md",
    "recipes/*/*.csv",
    "recipes/*/*.tsv",
    "recipes/*/*.svg",
    "benchmarks/*.md",
    "asr/data/models/*/README.md",
    "tests/faults/README.md",
)
"""Documents outside ``docs/`` that are part of the site."""

GROUP_TITLES = {
    "experiment": "Experiments: files of differences",
    "pretraining": "Pretraining: laid over an experiment",
    "sweep": "Sweeps",
}


LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)")
"""The path of a relative link."""

REFERENCE = {"conf/train.yaml": "reference/configuration.md", "asr/cli/app.py": "reference/commands.md"}
"""Generated pages, which the repository does not have, by what documents link to instead. A module leads to its package."""

RESULTS = "Results"
"""Title of the section that has the mounted documents."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the mounted documents in the navigation, each under its own heading."""
    pages = [path for pattern in MOUNTED for path in sorted(ROOT.glob(pattern)) if path.suffix == ".md"]
    listed = [{title(path): path.relative_to(ROOT).as_posix()} for path in pages]
    config.nav = [{RESULTS: listed} if entry == RESULTS else entry for entry in config.nav or []]
    return config


def title(path: Path) -> str:
    """The first heading of a Markdown file."""
    return next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")).lstrip("# ")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated and the mounted pages."""
    pages = {"reference/configuration.md": configuration(), "reference/commands.md": commands()}
    pages |= {f"reference/packages/{folder.name}.md": package(folder) for folder in packages()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for pattern in MOUNTED:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of the repository into those of the site."""
    source = Path(page.file.src_uri)
    in_repository = source if (ROOT / source).is_file() else "docs" / source

    def turn(match: re.Match[str]) -> str:
        target = normpath(in_repository.parent / match[1])
        module = re.fullmatch(r"asr/(\w+)/\w+.py", target)
        there = f"reference/packages/{module[1]}.md" if module else target.removeprefix("docs/")
        there = REFERENCE.get(target, there)
        return relpath(there, source.parent)

    return LINK.sub(turn, markdown)


def packages() -> list[Path]:
    """The folders of asr's packages."""
    return sorted(path.parent for path in (ROOT / "asr").glob("*/__init__.py"))


def package(folder: Path) -> str:
    """The page of a package: its docstring, then its public modules."""
    tree = parse((folder / "__init__.py").read_text(encoding="utf-8"))
    listed = [
        literal_eval(node.value)
        for node in tree.body
        if isinstance(node, Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets)
    ]
    modules = listed[0] if listed else sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    about = re.sub(r"\n(?=In: |Out: |Start with )", "  \n", get_docstring(tree) or "")  # each on a line of its own
    lines = [f"# asr.{folder.name}", "", about, "", *(f"::: asr.{folder.name}.{module}\n" for module in modules)]
    return "\n".join(lines)


# --- configuration ---------------------------------------------------------------------------------------------------


def configuration() -> str:
    """The page of all settings."""
    notes = settings_notes()
    lines = [(ROOT / "docs/reference/configuration_head.txt").read_text(encoding="utf-8"), "## The run itself", ""]
    default = compose(["run_dir=RUN_DIR"])
    hints = get_type_hints(TrainConfig)
    rows = [
        [
            f"`{key}`",
            type_name(hints[key]),
            "required" if key == "run_dir" else value(getattr(default, key)),
            notes[key],
        ]
        for key in hints
        if hints[key] in (str, int, bool)
    ]
    lines += table(["setting", "value", "default", "meaning"], rows)
    for key, hint in hints.items():
        if is_dataclass(hint) or isinstance(hint, UnionType):
            lines += group(key, notes)
    lines += ["## `decoder.yaml` in a model folder", "", str(BeamConfig.__doc__), ""]
    lines += table(["setting", "value", "meaning"], [row(one, "beam", notes) for one in settings(BeamConfig)])
    for name, title in GROUP_TITLES.items():
        lines += [f"## {title}", ""]
        for path in sorted((config_dir() / name).glob("*.yaml")):
            lines += [f"### `{name}={path.stem}`", "", "```yaml", path.read_text(encoding="utf-8").strip(), "```", ""]
    return "\n".join(lines)


def group(name: str, notes: Mapping[str, str]) -> list[str]:
    """The settings of a group: a table for each of its dataclasses, then how its other options differ."""
    options = {path.stem: getattr(compose([f"{name}={path.stem}", "run_dir=x"]), name) for path in option_files(name)}
    usual = default_option(name)
    lines = [f"## `{name}`", "", f"Options: {', '.join(f'`{name}={one}`' for one in options)}. Default: `{usual}`.", ""]
    schemas = dict.fromkeys(VARIANTS[name].values()) if name in VARIANTS else [type(options[usual])]
    for schema in schemas:
        having = {option: one for option, one in options.items() if type(one) is schema}
        shown = having if name in VARIANTS else {usual: options[usual]}
        if name in VARIANTS:
            lines += [f"### {', '.join(f'`{option}`' for option in having)}", ""]
        lines += [" ".join(str(schema.__doc__).split()), ""]
        rows = [row(one, name, notes, list(shown.values())) for one in settings(schema)]
        titles = [f"`{option}`" if len(shown) > 1 else "default" for option in shown]
        lines += table(["setting", "value", *titles, "meaning"], rows)
    if name not in VARIANTS and len(options) > 1:
        lines += [f"How the other options differ from `{usual}`:", ""]
        others = {option: one for option, one in options.items() if option != usual}
        rows = [
            [f"`{option}`", about(name, option), differences(options[usual], one)] for option, one in others.items()
        ]
        lines += table(["option", "what", "settings"], rows)
    return lines


def option_files(name: str) -> list[Path]:
    """The YAML files of a group."""
    return sorted((config_dir() / name).glob("*.yaml"))


def default_option(name: str) -> str:
    """The option of a group that ``conf/train.yaml`` lists."""
    defaults = yaml.safe_load((config_dir() / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    return next(str(entry[name]) for entry in defaults if isinstance(entry, dict) and name in entry)


def about(name: str, option: str) -> str:
    """The comment at the head of an option's file."""
    text = (config_dir() / name / f"{option}.yaml").read_text(encoding="utf-8")
    head = re.match(r"(?:#.*\n)*", text)
    return " ".join(line.lstrip("# ") for line in head[0].splitlines()) if head else ""


def differences(usual: Any, other: Any) -> str:
    """The values of an option that are not the default option's."""
    changed = [one.name for one in settings(type(usual)) if getattr(usual, one.name) != getattr(other, one.name)]
    return "<br>".join(f"`{name}: {plain(getattr(other, name))}`" for name in changed if name != "name")


def settings(schema: type) -> Sequence[Field[Any]]:
    """The fields of a settings dataclass."""
    return fields(schema)


def row(setting: Field[Any], name: str, notes: Mapping[str, str], shown: Sequence[Any] = ()) -> list[str]:
    """Key, allowed values, values in the options ``shown``, and meaning of a setting."""
    key = f"{name}.{setting.name}"
    return [f"`{key}`", allowed(setting), *(value(getattr(option, setting.name)) for option in shown), notes[key]]


def type_name(hint: Any) -> str:
    """A type in words: list[float] as "list of float"."""
    if get_origin(hint) is list:
        return f"list of {get_args(hint)[0].__name__}"
    return str(hint.__name__)


def allowed(setting: Field[Any]) -> str:
    """The type and the values that a setting may have."""
    rule, kind = setting.metadata, type_name(setting.type)
    if "choices" in rule:
        listed = ", ".join(f"`{choice}`" for choice in rule["choices"])
        return listed if kind == "str" else f"list of {listed}"
    if "type" in rule:
        return "str or list of str"
    if "low" not in rule:
        return kind
    low, high = (f"{bound:g}" for bound in (rule["low"], rule["high"]))
    return f"{kind}, {low} or more" if high == "inf" else f"{kind}, {low} to {high}"


def value(found: Any) -> str:
    """A value as YAML, marked up."""
    return f"`{plain(found)}`"


def plain(found: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(found, default_flow_style=True, width=1000).strip()
    return text.removesuffix("...").strip()


def settings_notes() -> dict[str, str]:
    """What each setting means, by dotted key, from ``docs/settings.yaml``."""
    found = yaml.safe_load((ROOT / "docs/settings.yaml").read_text(encoding="utf-8"))
    return {
        f"{name}.{one}" if name != "run" else one: text for name, part in found.items() for one, text in part.items()
    }


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in [header, *rows]]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return [lines[0], "|" + "---|" * len(header), *lines[1:], ""]


# --- commands --------------------------------------------------------------------------------------------------------


COMMANDS_HEAD = "`asr COMMAND --help` prints the same. Bad input is one line on standard error and exit status 2."


def commands() -> str:
    """The page of all commands."""
    lines = ["# Commands", "", COMMANDS_HEAD, ""]
    for name, command in walk("asr", typer.main.get_command(app)):
        lines += command_section(name, command)
    return "\n".join(lines)


def walk(name: str, command: Any) -> list[tuple[str, Any]]:
    """A command and those below it, each with its full name."""
    below = getattr(command, "commands", {})
    return [(name, command), *(found for part, one in below.items() for found in walk(f"{name} {part}", one))]


def command_section(name: str, command: Any) -> list[str]:
    """Help, usage, arguments and options of one command."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([name, *(["[OPTION...]"] if options else []), *(usage_of(one) for one in arguments)])
    if getattr(command, "commands", None):
        usage += " COMMAND"
    lines = [f"## {name}", "", str(command.help or "").strip(), "", "```text", usage, "```", ""]
    if arguments:
        lines += table(["argument", "meaning"], [[f"`{one.name.upper()}`", one.help or ""] for one in arguments])
    if options:
        hints = get_type_hints(command.callback)
        rows = [[option_names(one), value_of(hints[one.name]), default_of(one), one.help or ""] for one in options]
        lines += table(["option", "value", "default", "meaning"], rows)
    return [*lines, str(command.epilog or ""), ""]


def usage_of(argument: Any) -> str:
    """An argument as a usage line has it."""
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def option_names(option: Any) -> str:
    """All spellings of an option."""
    return ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])


def value_of(hint: Any) -> str:
    """The values of an option of this type: its choices, or a word for the type."""
    inner = [one for one in get_args(hint) if one is not type(None)]
    if inner:  # a list, or None as well
        return value_of(inner[0])
    if issubclass(hint, Enum):
        return ", ".join(f"`{one.value}`" for one in hint)
    return {Path: "path", bool: "", str: "text", int: "integer", float: "number"}[hint]


def default_of(option: Any) -> str:
    """The default of an option, empty where there is none."""
    found = option.default
    if found is None or (option.is_flag and not option.secondary_opts):
        return ""
    listed = found if isinstance(found, list | tuple) else [found]
    return ", ".join(f"`{getattr(one, 'value', one)}`" for one in listed)
