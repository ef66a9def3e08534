"""Gives a new environment the packages that a wheel asks for, as hard links to those that are installed here.

    python link_packages.py WHEEL EXTRA SITE

Only what the wheel declares, with this extra, and what that declares in turn: what the package imports and nobody
declares is as absent from SITE, the new environment's folder of packages, as from a stranger's. A requirement that is
not installed here, or at a version that does not do, is left to pip.
"""

import email
import importlib.metadata
import os
import shutil
import sys
import zipfile
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def wanted(lines: list[str], extras: set[str]) -> list[Requirement]:
    """The requirements that hold on this machine."""
    requirements = [Requirement(line) for line in lines]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    ]


def required(wheel: str, extra: str) -> dict[str, importlib.metadata.Distribution]:
    """The distributions that are installed here of those that the wheel requires, directly or not, by their names."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    found, seen, ahead = {}, set(), wanted(lines, {extra})
    while ahead:
        requirement = ahead.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if requirement.specifier.contains(distribution.version, prereleases=True):
            found[name] = distribution
            ahead += wanted(distribution.requires or [], requirement.extras)
    return found


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def main(wheel: str, extra: str, site: str) -> None:
    own = {canonicalize_name(other.name) for other in importlib.metadata.distributions(path=[site])}
    linked = [distribution for name, distribution in required(wheel, extra).items() if name not in own]
    for distribution in linked:
        for path in distribution.files or []:
            source, target = Path(distribution.locate_file(path)), Path(site) / path
            if ".." in path.parts or target.exists() or not source.exists():  # commands name their interpreter
                continue
            link(source, target)
            if source.suffix == ".py":
                compiled = Path(cache_from_source(str(source)))
                if compiled.exists() and not (copy := Path(cache_from_source(str(target)))).exists():
                    link(compiled, copy)
    print(f"{len(linked)} packages linked")


if __name__ == "__main__":
    main(*sys.argv[1:])
