"""Registering models and pipelines with transformers, no sooner than transformers itself needs them.

Importing transformers' Auto classes takes seconds, for they import torch. Importing this package does not: what it has
to register is registered once the modules of transformers that hold the registries have been imported, or at once where
they are there already.
"""

import sys
import threading
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

# The rooms of this package that register what they hold at the end of their own import, and where they register it.
REGISTERING = {
    "hf_localgan.models": "transformers.models.auto.configuration_auto",
    "hf_localgan.pipelines": "transformers.pipelines",
}

# A room may load a registry in the midst of its own import, where the next room could not yet import from it. So this
# package's modules count, too, when it is asked whether an import is whole.
WATCHED = ("transformers.", "hf_localgan.")


def register():
    """Registers the models with the Auto classes, and the pipelines, now. Safe to call twice."""
    for room in REGISTERING:
        import_module(room)


def register_when_needed():
    """Registers what the loaded modules of transformers can hold now, and the rest when they are loaded."""
    waiting = []
    for room, registry in REGISTERING.items():
        if registry in sys.modules:
            import_module(room)
        else:
            waiting.append(room)
    if waiting and not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch(waiting))


class _Watch(MetaPathFinder):
    """Watches modules of transformers and of this package being loaded, and imports rooms after their registries.

    Not before the outermost of these modules is whole: in the midst of it, much of transformers cannot be imported.
    """

    def __init__(self, rooms: list[str]):
        self.rooms, self.thread = rooms, threading.local()

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if not fullname.startswith(WATCHED) or getattr(self.thread, "searching", False):
            return None
        self.thread.searching = True  # the other finders, and not this one again
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
            for room in [room for room in self.rooms if REGISTERING[room] in sys.modules]:
                if room not in self.rooms:
                    continue  # importing the room before it loaded more of transformers, which came by here
                self.rooms.remove(room)
                import_module(room)  # a room that is being imported just now registers at its end
            if not self.rooms and self in sys.meta_path:
                sys.meta_path.remove(self)


class _WatchedLoader(Loader):
    def __init__(self, loader: Loader, watch: _Watch):
        self.loader, self.watch = loader, watch

    def __getattr__(self, name: str):
        return getattr(self.loader, name)  # what tools ask of a loader, such as its source

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType):
        self.watch.load(self.loader, module)
