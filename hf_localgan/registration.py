"""Registering models and pipelines with transformers, no sooner than transformers itself needs them.

Importing transformers' Auto classes takes seconds, for they import torch. Importing this package does not: it registers
its models and pipelines once the modules of transformers with the registries have been imported, or at once where they
are imported already.
"""

import sys
import threading
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

# Subpackages that register their classes at the end of their own import, and the module with the registry.
REGISTRIES = {
    "hf_localgan.models": "transformers.models.auto.configuration_auto",
    "hf_localgan.pipelines": "transformers.pipelines",
}

# A package may load a registry during its own import, when the other one could not import from it yet. So modules of
# this package count, too, when the watch waits for the end of an import.
WATCHED = ("transformers.", "hf_localgan.")


def register():
    """Registers the models with the Auto classes, and the pipelines, now. Safe to call twice."""
    for package in REGISTRIES:
        import_module(package)


def register_when_needed():
    """Registers with the registries that are loaded now, and with the others when they are loaded."""
    waiting = []
    for package, registry in REGISTRIES.items():
        if registry in sys.modules:
            import_module(package)
        else:
            waiting.append(package)
    if waiting and not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch(waiting))


class _Watch(MetaPathFinder):
    """Watches modules of transformers and of this package being imported, and imports packages after their registries.

    It waits until the outermost of these modules is whole: before, much of transformers cannot be imported.
    """

    def __init__(self, packages: list[str]):
        self.packages, self.thread = packages, threading.local()

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if not fullname.startswith(WATCHED) or getattr(self.thread, "searching", False):
            return None
        self.thread.searching = True  # ask the other finders, and not this one again
        try:
            spec = find_spec(fullname)
        finally:
            self.thread.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchedLoader(spec.loader, self)
        return spec

    def load(self, loader: Loader, module: ModuleType):
        self.thread.depth = getattr(self.thread, "depth", 0) + 1
        try:
            loader.exec_module(module)
        finally:
            self.thread.depth -= 1
        if self.thread.depth == 0:
            for package in [package for package in self.packages if REGISTRIES[package] in sys.modules]:
                if package not in self.packages:
                    continue  # importing the package before it loaded more of transformers, which came by here
                self.packages.remove(package)
                import_module(package)  # a package that is being imported now registers at its end
            if not self.packages and self in sys.meta_path:
                sys.meta_path.remove(self)


class _WatchedLoader(Loader):
    def __init__(self, loader: Loader, watch: _Watch):
        self.loader, self.watch = loader, watch

    def __getattr__(self, name: str):
        return getattr(self.loader, name)  # other attributes of a loader, such as its source

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType):
        self.watch.load(self.loader, module)
