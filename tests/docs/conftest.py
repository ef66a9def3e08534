"""The site, built once."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Site:
    """A built site: its folder, and what mkdocs said and returned."""

    folder: Path
    code: int
    said: str

    @property
    def pages(self) -> list[str]:
        """Paths of all pages below the root, such as `api/data/`."""
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("index.html"))
        return sorted(path.removesuffix("index.html") for path in found)

    def text(self, page: str) -> str:
        return (self.folder / page / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Site:
    """Built with `--strict`: a broken link, anchor or reference, or a file of the navigation that is missing, fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=500)
    return Site(folder, done.returncode, done.stdout + done.stderr)
