"""Importing gradio, which is not installed with the package."""

import os


def import_gradio():
    """gradio, told first to send no usage data.

    Raises:
        ImportError: where it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ImportError('The demo needs gradio: `pip install "hf-localgan[demo]"`.') from error
    return gradio
