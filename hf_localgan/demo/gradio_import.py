"""Importing gradio, which the extra `demo` installs."""

import os
from types import ModuleType


def import_gradio() -> ModuleType:
    """The module gradio, with its usage statistics switched off.

    Raises:
        ImportError: if it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ImportError('The demo needs gradio: `pip install "hf-localgan[demo]"`.') from error
    return gradio
