"""Three things that a static look at the package misses, for the API pages.

Settings describe themselves once, in the `help` of their field; it becomes their text. And a function that has the name
of its module, such as `decoding.soft_rollout`, is what that name means once the package is imported.
Several names may share a line of a docstring.
"""

import ast
import re

import griffe


class FieldHelp(griffe.Extension):
    """Takes `field(default=..., metadata={"help": "..."})` apart: the default is the value, the help the docstring."""

    def on_attribute_instance(self, *, node, attr: griffe.Attribute, **kwargs):
        value = getattr(node, "value", None)
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name)):
            return
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        if value.func.id == "field":
            described = help_text(given.get("metadata"))
        elif value.func.id == "option" and len(value.args) == 2:  # `option(default, help)` of the recipes' groups
            given, described = {"default": value.args[0]}, plain_text(value.args[1])
        else:
            return
        if described and attr.docstring is None:
            attr.docstring = griffe.Docstring(described, lineno=node.lineno, parent=attr)
        if "default" in given:
            attr.value = ast.unparse(given["default"])
        elif "default_factory" in given:
            attr.value = f"{ast.unparse(given['default_factory'])}()"


class NamesOfOneLine(griffe.Extension):
    """Keeps `train, validation, test: encoded pairs.` one item of its section, and its names plain text.

    Of attributes griffe takes what follows the first space for a type; spaces that do not break are no spaces to it.
    """

    SECTION = re.compile(r"^(Args|Attributes):\n(?:[ \t]+.*\n?|\n)+", re.MULTILINE)
    NAMES = re.compile(r"^ {4}\w+(?:, \w+(?: \(`\w+`\))?)+[^:\n]*(?=: )", re.MULTILINE)

    def on_instance(self, *, obj: griffe.Object, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = self.SECTION.sub(self.plain_names, obj.docstring.value)

    def plain_names(self, section: re.Match) -> str:
        space = "\N{NO-BREAK SPACE}" if section[1] == "Attributes" else " "
        return self.NAMES.sub(lambda names: names[0].replace("`", "").replace(", ", f",{space}"), section[0])


class FunctionsNamedLikeModules(griffe.Extension):
    """Puts an exported function in the place of the module of the same name that it is imported from."""

    def on_package(self, *, pkg: griffe.Module, **kwargs):
        for room in [module for module in pkg.modules.values() if not module.is_alias]:
            for name in map(str, room.exports or ()):
                module = room.members.get(name)
                if module is not None and module.is_module and name in module.members:
                    room.set_member(name, griffe.Alias(name, target=module.members[name], parent=room))


def help_text(metadata: ast.expr | None) -> str | None:
    """The text at `"help"`, if it is a plain string."""
    if not isinstance(metadata, ast.Dict):
        return None
    for key, value in zip(metadata.keys, metadata.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "help":
            return plain_text(value)
    return None


def plain_text(node: ast.expr) -> str | None:
    """A string that is written out, in one or several pieces."""
    try:
        return str(ast.literal_eval(node))
    except ValueError:
        return None
