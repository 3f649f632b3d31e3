#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""picture.py - draws heap.csv, which run.py has written: picture.py CSV > SVG

A line for each workload, a dot for each allocator, on a logarithmic axis;
below it, memory divided by live bytes.
"""
import csv
import math
import sys
from html import escape

COLOURS = {
    "ours": "#d62728", "mimalloc": "#1f77b4", "tcmalloc": "#17a2a2",
    "jemalloc": "#7f9f2f", "libc": "#7f7f7f", "boost": "#e0872b",
    "pmemobj": "#8c5fb0", "empty": "#cccccc",
}
LABELS = {
    "pair": "pair", "batch": "batch", "pair2p": "pair, 2 processes",
    "pair2t": "pair, 2 threads", "batch2p": "batch, 2 processes",
    "batch2t": "batch, 2 threads", "xfree": "xfree", "larson": "larson",
    "large": "large", "first": "first use", "frag": "long replacement",
    "cut": "cut to a fifth", "later": "... replaced on",
    "trimmed": "... trimmed",
}
MEMORY = ("frag", "cut", "later", "trimmed")
LEFT, RIGHT, TOP, ROW, WIDTH = 150, 30, 62, 24, 820


def read(path):
    """[comment], {column: {allocator: (median, spread)}}"""
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    table = {}
    for r in csv.DictReader(x for x in lines if not x.startswith("#")):
        table.setdefault(r["workload"], {})[r["allocator"]] = (
            float(r["median"]), float(r["spread"]))
    return [x[2:] for x in lines if x.startswith("#")], table


def text(x, y, s, size=12, anchor="start", fill="#222"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}" fill="{fill}">{escape(s)}</text>')


class Axis:
    """From a value to a place across, logarithmic."""

    def __init__(self, values):
        self.lo = math.floor(math.log10(min(values)) * 2) / 2
        self.hi = math.ceil(math.log10(max(values)) * 2) / 2

    def x(self, v):
        part = (math.log10(v) - self.lo) / (self.hi - self.lo)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def ticks(self):
        all_of_them = (m * 10.0 ** e for e in range(-1, 8) for m in (1, 2, 5))
        lo, hi = 10 ** self.lo * 0.999, 10 ** self.hi * 1.001
        ticks = [t for t in all_of_them if lo <= t <= hi]
        return ticks if len(ticks) < 9 else [
            t for t in ticks if math.log10(t) % 1 == 0]


def panel(table, columns, y, title):
    """SVG lines and the y below them."""
    out = [text(LEFT, y, title, 13)]
    axis = Axis([v for c in columns for v, _ in table[c].values()])
    y += 14
    bottom = y + ROW * len(columns)
    for t in axis.ticks():
        out.append(f'<path d="M{axis.x(t):.1f} {y}V{bottom}" stroke="#e4e4e4"/>')
        out.append(text(axis.x(t), bottom + 14, f"{t:,g}", 11, "middle",
                        "#666"))
    for c in columns:
        y += ROW
        mid = y - ROW / 2
        out.append(text(LEFT - 10, mid + 4, LABELS[c], 12, "end"))
        out.append(f'<path d="M{LEFT} {mid}H{WIDTH - RIGHT}" stroke="#eee"/>')
        for a in sorted(table[c], key=lambda a: a == "ours"):
            v, s = table[c][a]
            lo, hi = axis.x(max(v - s, v / 9)), axis.x(v + s)
            out.append(f'<path d="M{lo:.1f} {mid}H{hi:.1f}" '
                       f'stroke="{COLOURS[a]}" stroke-width="3"/>')
            out.append(f'<circle cx="{axis.x(v):.1f}" cy="{mid}" '
                       f'r="{5.5 if a == "ours" else 4.5}" '
                       f'fill="{COLOURS[a]}" stroke="#fff">'
                       f'<title>{a}, {LABELS[c]}: {v:,g}</title></circle>')
    return out, bottom + 44


def main():
    about, table = read(sys.argv[1])
    out, x = [], LEFT
    for a in COLOURS:
        if any(a in row for row in table.values()):
            name = "the harness" if a == "empty" else a
            out.append(f'<circle cx="{x}" cy="18" r="5" fill="{COLOURS[a]}"/>')
            out.append(text(x + 9, 22, name))
            x += 26 + 7 * len(name)
    y = TOP
    for columns, title in (
            ([c for c in LABELS if c in table and c not in MEMORY],
             "ns for a malloc and its free; less is better"),
            ([c for c in MEMORY if c in table],
             "memory / live bytes; less is better")):
        if columns:
            lines, y = panel(table, columns, y, title)
            out += lines
    for line in about:
        out.append(text(10, y, line, 10, "start", "#666"))
        y += 13
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
          f'height="{y}" viewBox="0 0 {WIDTH} {y}" '
          f'font-family="sans-serif">\n'
          f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>')
    print("\n".join(out) + "\n</svg>")


main()
