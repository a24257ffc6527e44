"""One tick in a line for people."""

import math
from collections.abc import Mapping, Sequence

Shown = Sequence[tuple[str, Sequence[str]]]
"""Label → figures that stand behind it, divided by strokes."""


def status_line(record: Mapping[str, float], shown: Shown = (), left: float = math.nan) -> str:
    """Where we are, how fast, is the feed keeping up, what the system shows of itself, how long still (seconds)."""

    def number(name: str, digits: int = 3) -> str:
        value = record.get(name)
        return "-" if value is None else f"{value:.{digits}g}"

    parts = [
        f"kimg {record['kimg']:.1f}",
        f"epoch {record['epoch']:.1f}",
        f"s/kimg {record['sec_per_kimg']:.2f}",
        f"img/s {record['img_per_s']:.0f}",
        f"wait {100 * record['data_wait']:.1f}%",
        f"mem {record.get('gpu_gib', record['cpu_gib']):.1f}G",
        *(f"{label} {'/'.join(map(number, names))}" for label, names in shown),
        f"nonfinite {record.get('nonfinite', 0):.0f}",
    ]
    if math.isfinite(left):
        parts.append(f"left {duration_in_words(left)}")
    return "  ".join(parts)


def duration_in_words(seconds: float) -> str:
    """59s, 3m 07s, 2h 05m, 3d 04h."""
    whole = max(0, round(seconds))
    for size, unit, small, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // small:02d}{below}"
    return f"{whole}s"
