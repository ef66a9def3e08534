"""What an epoch of the papers' corpora costs on 1, 8 and 64 processes, from the time of an update and a bandwidth.

    python benchmarks/scale.py                                       # from the measured times of one processor core
    python benchmarks/scale.py --update opensubtitles "maximum likelihood" 0.02 --bandwidth 100

An update of N processes with a batch of B pairs each takes

    compute + 2 (N - 1) / N * bytes / bandwidth + 2 (N - 1) * latency

seconds: the time of one process, and a ring that averages `bytes` of gradients, of which nothing is hidden behind the
computation (data parallelism hides a part, so this is the most). An epoch of P pairs is P / (N * B) updates. Times in
`scale_steps.json` are of one processor core; `--update` puts your own in their place, `--speedup` divides them all.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from tables import number_table

HERE = Path(__file__).parent
PAIRS = {"opensubtitles": 5_200_000, "weibo": 2_500_000, "wmt14": 36_000_000}  # of the two papers
TITLES = {"opensubtitles": "OpenSubtitles", "weibo": "Weibo", "wmt14": "WMT'14 English-French"}
PROCESSES = (1, 8, 64)


@dataclass(frozen=True)
class Update:
    """One update of one process.

    Attributes:
        seconds: of computation.
        batch: pairs.
        gradient_bytes: that are averaged over the processes.
    """

    seconds: float
    batch: int
    gradient_bytes: int

    def communication(self, processes: int, bandwidth: float, latency: float) -> float:
        """Seconds of a ring over `processes`, each sending `bandwidth` bytes a second, `latency` seconds a message."""
        if processes == 1:
            return 0.0
        sent = 2 * (processes - 1) / processes * self.gradient_bytes
        return sent / bandwidth + 2 * (processes - 1) * latency

    def epoch(self, pairs: int, processes: int, bandwidth: float, latency: float) -> float:
        """Seconds in which each pair is seen once."""
        updates = pairs / (self.batch * processes)
        return updates * (self.seconds + self.communication(processes, bandwidth, latency))


def read_updates(path: Path, speedup: float) -> dict[str, dict[str, Update]]:
    """The measured updates by corpus and trainer, `speedup` times as fast."""
    corpora = json.loads(path.read_text(encoding="utf-8"))["corpora"]
    return {
        corpus: {
            name: Update(one["median_seconds"] / speedup, one["batch"], one["gradient_bytes"])
            for name, one in found["updates"].items()
        }
        for corpus, found in corpora.items()
    }


def table(updates: dict[str, dict[str, Update]], bandwidth: float, latency: float) -> str:
    """Hours of an epoch of each trainer, as Markdown; in brackets the share of communication.

    Args:
        updates: as `read_updates` returns them.
        bandwidth: bytes a second that each process sends.
        latency: seconds of a message.
    """
    columns = ["corpus", "update of", "batch", "gradients, MB", "computation, s"]
    columns += [f"epoch on {number}, hours" for number in PROCESSES]
    rows = []
    for corpus, some in updates.items():
        for name, one in some.items():
            cells = [str(one.batch), f"{one.gradient_bytes / 1e6:.1f}", f"{one.seconds:.3g}"]
            for number in PROCESSES:
                sent = one.communication(number, bandwidth, latency)
                share = f" ({sent / (one.seconds + sent):.0%})" if number > 1 else ""
                hours = one.epoch(PAIRS[corpus], number, bandwidth, latency) / 3600
                cells.append(f"{hours:,.0f}{share}" if hours >= 999.5 else f"{hours:.3g}{share}")
            rows.append((f"{TITLES[corpus]}, {PAIRS[corpus]:,} pairs", name, *cells))
    return number_table(columns, rows, "<<>")


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=Path, default=HERE / "scale_steps.json", help="what scale_steps.py has written")
    parser.add_argument("--speedup", type=float, default=1.0, help="how many times as fast your device is")
    parser.add_argument(
        "--update", nargs=3, action="append", default=[], metavar=("CORPUS", "NAME", "SECONDS"),
        help="the time of an update on your device; only what is given so is then told",
    )  # fmt: skip
    parser.add_argument("--bandwidth", type=float, default=1.25, help="that each process sends, 10^9 bytes a second")
    parser.add_argument("--latency", type=float, default=20.0, help="of a message, microseconds")
    wanted = parser.parse_args(arguments)
    for name in ("speedup", "bandwidth"):
        if not getattr(wanted, name) > 0:
            parser.error(f"--{name} must be above 0, got {getattr(wanted, name)}")
    updates = read_updates(wanted.steps, wanted.speedup)
    own: dict[str, dict[str, Update]] = {}
    for corpus, name, seconds in wanted.update:
        if name not in updates.get(corpus, {}):
            known = "; ".join(f"{one}: {', '.join(some)}" for one, some in updates.items())
            parser.error(f"there is no update {corpus!r} {name!r} ({known})")
        known = updates[corpus][name]
        own.setdefault(corpus, {})[name] = Update(float(seconds), known.batch, known.gradient_bytes)
    print(table(own or updates, wanted.bandwidth * 1e9, wanted.latency * 1e-6))


if __name__ == "__main__":
    main()
