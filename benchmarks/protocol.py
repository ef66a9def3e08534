"""Timed systems live in processes of their own, which are spoken to in lines of JSON through pipes.

Needs only the standard library, so that it runs in any environment. A request is `{"do": name, ...}`; the answer is
what the system's method of that name returns and the time it took (see `now`), or `{"error": text}`.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path


class Worker:
    """The caller's end: starts `script` with `python` and more environment variables, and sends it requests."""

    def __init__(self, python: Path, script: Path, name: str, environment: dict[str, str] | None = None):
        self.name = name
        package = str(script.resolve().parents[1])  # the package of this tree is timed, not an installed one
        self.process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": package, **(environment or {})},
        )

    def ask(self, do: str, **arguments) -> dict:
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f'The process of "{self.name}" ended with {self.process.wait()} while asked to {do}.')
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f'"{self.name}" failed to {do}:\n{answer["error"]}')
        return answer

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(make_system: Callable[..., object]):
    """The worker's end: `build` calls `make_system`; all other requests are methods of what it returned."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the error stream
    system, imported = None, resident("VmRSS")
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if do == "build":
                system = make_system(**request)
                answer = {"parameters": system.parameters()}
            elif do == "memory":
                answer = {"peak": peak_of(lambda: system.train(**request), imported)}  # noqa: B023, called at once
            else:
                start = now()
                result = getattr(system, do)(**request) or {}
                answer = {**since(start), **result}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def now() -> dict[str, float]:
    """Seconds of the wall's clock, and seconds that processors worked for this process."""
    return {"wall": time.perf_counter(), "cpu": time.process_time()}


def since(start: dict[str, float]) -> dict[str, float]:
    return {clock: seconds - start[clock] for clock, seconds in now().items()}


def peak_of(run: Callable[[], object], imported: int | None) -> int | None:
    """Peak of the resident memory while `run()` works, less what the imported libraries take, in bytes."""
    if imported is None:
        return None
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present
    run()
    return resident("VmHWM") - imported


def resident(field: str) -> int | None:
    """Resident memory of this process in bytes, now (`VmRSS`) or at its peak (`VmHWM`); `None` but on Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
