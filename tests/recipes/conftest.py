import contextlib
import io
import runpy
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="session")
def run_script():
    """`run_script(name)`: runs a recipe in this process, with the words of `sys.argv`.

    Where it does not end well the `SystemExit` carries the last line of standard error instead of the exit code.
    """

    def run(name: str):
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, int) and end.code:
                raise SystemExit(errors.getvalue().strip().splitlines()[-1]) from end
            if end.code:
                raise

    return run


@pytest.fixture(scope="session")
def shown():
    """`shown(folder)`: the names of what the TensorBoard run of an output folder shows, but for single numbers."""

    def read(folder: Path) -> set[str]:
        (run,) = (folder / "runs").iterdir()
        tags = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0}).Reload().Tags()
        return {*tags["images"], *(name.removesuffix("/text_summary") for name in tags["tensors"])}

    return read
