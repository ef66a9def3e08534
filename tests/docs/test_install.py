"""The page on installing and the container: what they name is there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_for_users_is_explained_and_every_named_one_exists():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.split("## Extras")[1], re.MULTILINE)
    extras = set(PROJECT["optional-dependencies"])
    assert set(rows) == extras - {"docs", "test"}
    named = {name for names in re.findall(r"\[([a-z,]+)\]\"", PAGE) for name in names.split(",")}
    assert named <= extras
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer" in PAGE


def test_the_windows_commands_are_those_of_make():
    made = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(VENV)/bin/", "")
    for line in re.findall(r"\.venv\\Scripts\\(.*)", PAGE):
        assert line.replace("python -m pytest", "pytest").split(" ")[0] in made
    launched = re.search(r"accelerate launch .*", PAGE)[0]
    assert launched in made


def test_the_container_copies_files_that_are_there_and_all_that_the_build_reads():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert all((ROOT / word).exists() for word in copied)
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "hf_localgan", "recipes/smalltalk"} <= set(
        copied
    )
    extras = re.search(r'"\.\[([a-z,]+)\]"', text)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not set(ignored) & set(copied)
