"""What the annotation kit needs beyond the package's own dependencies: the extra `annotation`."""

from importlib import import_module
from types import ModuleType


def annotation_module(name: str) -> ModuleType:
    """A module of the extra `annotation`, imported when it is first used.

    Raises:
        ImportError: where it is not installed; the message names the extra.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise ImportError(
            f'Annotation needs the package {package}: `pip install "hf-localgan[annotation]"`.'
        ) from error
