"""Equations as MathML, made when the site is built, so that a reader's browser needs neither a script nor a network.

`pymdownx.arithmatex` finds `$...$` and `$$...$$` and leaves their TeX in an element of its own; here it becomes MathML.
A command that is not known fails the build. A wide equation scrolls in its own box.
"""

import re
from html import unescape

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

FUNCTION = re.compile(r"(<mi>(?:log|ln|exp)</mi>)(?=<m(?!o))")  # the converter leaves no space
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>([.,;:)]*)', re.DOTALL)


def on_page_content(html, page, config, files):
    """Replaces the TeX of a page."""

    def equation(match: re.Match) -> str:
        tex = unescape(match[3]).strip()
        block = match[2] == "["
        try:
            mathml = convert(tex, display="block" if block else "inline")
        except Exception as error:  # of a library that has no common class for what it refuses
            raise PluginError(f"{page.file.src_uri}: no equation can be made of ${tex}$: {error!r}") from error
        if unknown := re.findall(r"\\\w+", mathml):
            raise PluginError(f"{page.file.src_uri}: {unknown[0]} of ${tex}$ is not known.")
        mathml = FUNCTION.sub(r'\1<mspace width="0.17em" />', mathml)
        if block:
            return f'<div class="equation">{mathml}</div>{match[4]}'
        return f'<span class="ended">{mathml}{match[4]}</span>' if match[4] else mathml

    return EQUATION.sub(equation, html)
