"""The metrics as `evaluate` modules, loaded from the installed package."""

from pathlib import Path
from typing import Any

_MODULES = Path(__file__).parent / "modules"


def module_names() -> list[str]:
    """The names that `load` takes."""
    return sorted(path.name for path in _MODULES.iterdir() if (path / f"{path.name}.py").is_file())


def module_path(name: str) -> str:
    """The folder of one module, for `evaluate.load`."""
    if name not in module_names():
        raise ValueError(f"No metric module {name!r}; there are {', '.join(module_names())}.")
    return str(_MODULES / name)


def load(name: str, **arguments: Any) -> Any:
    """`evaluate.load` of one of the package's modules. Reads the installed package only, without a network.

    Args:
        name: one of `module_names()`.
        arguments: passed on, for example `cache_dir` or `keep_in_memory`.

    Returns:
        An `evaluate.Metric`. `compute(predictions=..., references=...)` takes strings; settings are further arguments.
    """
    import evaluate

    return evaluate.load(module_path(name), **arguments)
