"""The commands in the READMEs are typed here, with smaller numbers."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.commands import COMMANDS as COMMANDS_OF_ONE_LOOK

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")])
COMMANDS = [
    (page.relative_to(ROOT).as_posix(), line.strip())
    for page in PAGES
    if page.name != "CHANGELOG.md"
    for line in page.read_text(encoding="utf-8").splitlines()
    if line.strip().startswith(("python ", "one-look "))
]
MODULES = sorted(
    {module for page in PAGES for module in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8"))}
)
LINES_AT_MOST = {"README.md": 180, "CONTRIBUTING.md": 125}
OLD_COMMANDS = {
    "data.layout",
    "search.fit",
    "search.schedules",
    "analysis.summary",
    "analysis.results",
}  # in the changelog


def command(start):
    """Return the command of a README that begins with `start`, as words."""
    line = next(line for _, line in COMMANDS if line.startswith(start))
    return shlex.split(line, comments=True)


def typed(words, cwd=ROOT, **replaced):
    words = ["python", "-m", "analysis.commands", *words[1:]] if words[0] == "one-look" else words
    words = [sys.executable if word == "python" else replaced.get(word, word) for word in words]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_scenes_command_works(tmp_path):
    process = typed(command("python -m data.scenes"), SCENES=str(tmp_path / "out"), **{"2000": "40"})
    assert process.returncode == 0, process.stderr
    assert len(list((tmp_path / "out" / "images").iterdir())) == 40


def test_compose_command_works(tmp_path, shared_data):
    folders = {"PHOTOS": str(shared_data / "rgbd"), "CUTOUTS": str(shared_data / "foregrounds")}
    process = typed(command("one-look compose"), DIR=str(tmp_path / "out"), **{"2000": "40"}, **folders)
    assert process.returncode == 0, process.stderr
    assert len(list((tmp_path / "out" / "depth").iterdir())) == 40


def test_check_command_works(tiny_dataset):
    process = typed(command("one-look check"), DIR=str(tiny_dataset))
    assert process.returncode == 0, process.stdout + process.stderr


def test_quick_start_command_is_parsed():
    from search.config.budget import parse_budget
    from search.run import build_parser

    words = command("python search/run.py")
    assert parse_budget(build_parser().parse_args(words[2:]).budget).wall_s == 300


@pytest.mark.parametrize(("page", "line"), [c for c in COMMANDS if c[1].startswith("python search/run.py")])
def test_every_search_command_of_the_readmes_is_parsed(page, line):
    from search.config.budget import parse_budget
    from search.run import build_parser

    args = build_parser().parse_args(shlex.split(re.split(r" > ", line)[0], comments=True)[2:])
    assert args.resume or args.config or args.print_config or parse_budget(args.budget)
    if args.recipe:
        from search.config.recipes import build_recipe

        build_recipe(args.recipe, width=args.width)


def test_settings_file_of_the_search_readme_is_read(tmp_path):
    from search.command_line.settings import parse_arguments
    from search.run import build_parser
    from search.study.space_settings import simplify_space

    text = (ROOT / "search" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "search.toml").write_text(text.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    args = parse_arguments(build_parser(), ["--config", str(tmp_path / "search.toml")])
    assert args.data == [tmp_path / "composites"] and args.stage == {"confirm": {"epochs": 20}}
    assert len(simplify_space(args.space)) == 5  # the learning rate of each optimizer


def test_grid_of_the_search_readme_is_read(tmp_path):
    from search.config.recipes import read_grid

    text = (ROOT / "search" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "grid.json").write_text(text.split("```json\n")[1].split("```")[0])
    assert len(read_grid(tmp_path / "grid.json")) == 5


@pytest.mark.parametrize("module", [module for module in MODULES if module not in OLD_COMMANDS])
def test_every_module_of_the_readmes_is_a_command(module):
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin
    path = Path(spec.origin)
    if path.name == "__init__.py":
        assert path.with_name("__main__.py").is_file()
    else:
        assert '__name__ == "__main__"' in path.read_text(encoding="utf-8")


def test_every_command_of_the_readmes_is_one_of_one_look():
    named = {name for page in PAGES for name in re.findall(r"one-look ([a-z]+)", page.read_text(encoding="utf-8"))}
    assert named >= {"report", "predict"} and named <= set(COMMANDS_OF_ONE_LOOK)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_short_and_their_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    if page.name in ("README.md", "CONTRIBUTING.md"):
        assert text.count("\n") <= LINES_AT_MOST.get(name, 80)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    ("start", "module", "run"),
    [
        ("python -m search.training.lr_finder", "search.training.lr_finder", []),
        ("one-look predict", "analysis.predict.__main__", ["run"]),
    ],
)
def test_options_of_the_readmes_exist(start, module, run):
    imported = importlib.import_module(module)
    build = getattr(imported, "build_parser", None) or imported.parser
    args = build().parse_args([*run, *command(start)[len(start.split()) :]])
    assert str(args.out) == command(start)[command(start).index("--out") + 1]


def test_files_to_read_exist():
    paths = re.findall(r"^\d\. `([\w/.]+)`", README, flags=re.MULTILINE)
    assert len(paths) == 9 and all((ROOT / path).is_file() for path in paths)


def test_ci_runs_the_commands_of_the_readme():
    spec = importlib.util.spec_from_file_location("readme_commands", ROOT / ".ci" / "readme_commands.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.commands(README) == ["pip install -e .", 'pip install -e ".[test]" && pytest']


@pytest.mark.parametrize("folder", ["search", "models", "data", "analysis"])
def test_folder_readme_names_every_module_and_no_other(folder):
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / folder).rglob("README.md")]
    named = set(re.findall(r"\b(\w+\.py)\b", " ".join(pages)))
    there = {path.name for path in (ROOT / folder).rglob("*.py")} - {"__init__.py", "__main__.py"}
    assert there - named == set()
    assert named - there <= {path.name for path in ROOT.glob("*/**/*.py")}
