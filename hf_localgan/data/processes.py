"""Work of `datasets` in several processes that leaves this process as it was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

PARALLELISM = "TOKENIZERS_PARALLELISM"


@contextmanager
def kept_environment() -> Iterator[None]:
    """Keeps `os.environ` the same object with the same content, though `datasets` starts processes within the context.

    `Dataset.map` with `num_proc` puts a copy in its place. Libraries that hold the former one, such as rich, then see
    no variable that is set later; and the variable that `datasets` sets for its processes stays set.
    """
    environment, parallelism = os.environ, os.environ.get(PARALLELISM)
    try:
        yield
    finally:
        os.environ = environment  # noqa: B003  # the very object is put back
        if parallelism is None:
            environment.pop(PARALLELISM, None)
        else:
            environment[PARALLELISM] = parallelism
