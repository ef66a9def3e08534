"""Files that were damaged: cut, flipped, emptied, zeroed, removed or replaced by another."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

BYTE_WAYS = ("cut", "flip", "flip", "empty", "remove", "other", "zeros")


@dataclass
class Damage:
    """What was done to one file of a folder.

    Attributes:
        file: its path within the folder.
        way: one of `BYTE_WAYS`, or "value": another value in JSON.
        before, after: its content; `None` where it was removed.
        needed: names of files that a reader cannot do without.
    """

    file: str
    way: str
    before: bytes
    after: bytes | None
    needed: Collection[str]

    def is_told(self) -> bool:
        """Whether a reader can tell that the file is missing, cut off or no file of its format."""
        if self.after is None:
            return Path(self.file).name in self.needed
        if self.file.endswith(".json"):
            try:
                return not isinstance(json.loads(self.after), type(json.loads(self.before)))
            except ValueError:
                return True
        if self.file.endswith(".safetensors") and len(self.after) != len(self.before):
            return True
        return self.way in ("cut", "empty", "other")

    def apply(self, folder: Path):
        """Does it to the file in a copy of the folder."""
        if self.after is None:
            (folder / self.file).unlink()
        else:
            (folder / self.file).write_bytes(self.after)


def damaged(draw, way: str, content: bytes, others: Sequence[Path]) -> bytes | None:
    """What is left of `content`; `None` for a file that is removed."""
    if way == "cut":
        return content[: draw(st.integers(0, len(content) - 1))]
    if way == "flip":
        at = draw(st.integers(0, min(len(content), draw(st.sampled_from([8, 300, 10**9]))) - 1))
        return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
    if way == "zeros":
        at = draw(st.integers(0, len(content) - 1))
        return content[:at] + bytes(len(content) - at)
    if way == "other":
        return draw(st.sampled_from(others)).read_bytes()
    return b"" if way == "empty" else None
