"""A local page in the browser: models side by side with the radii of their answers, and draws of RAML."""

from hf_localgan.demo.launching import launch

__all__ = ["launch"]
