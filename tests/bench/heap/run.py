#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""run.py - runs the heap benchmark's workers and compares.

run.py DIRECTORY: where the workers are, and heap.csv goes.

All allocators take turns, in an order that changes from round to round, so
that what disturbs the machine disturbs all of them. Printed is the median of
the rounds and, with ±, half of what the middle half of the rounds spans.
What one worker does is measured in its processor time, what two do in real
time; work.c has more. Only ours and Boost.Interprocess have a heap that the
processes share; what the others' two processes have is their own.

BENCH=pair,batch picks workloads, ONLY=ours,mimalloc allocators, ROUNDS=n.
"""
import csv
import glob
import os
import platform
import random
import re
import statistics
import subprocess
import sys

DIR = sys.argv[1]
ROUNDS = int(os.environ.get("ROUNDS", "7"))
FILE = f"/dev/shm/libshmem-bench-{os.getpid()}"

ALLOCATORS = {  # worker: Debian packages: to build it, and what it runs
    "ours": ("", ""),
    "mimalloc": ("libmimalloc-dev", "libmimalloc2.0"),
    "tcmalloc": ("libgoogle-perftools-dev", "libtcmalloc-minimal4"),
    "jemalloc": ("libjemalloc-dev", "libjemalloc2"),
    "libc": ("", "libc6"),
    "boost": ("libboost-dev, g++", "libboost-dev"),
    "pmemobj": ("libpmemobj-dev", "libpmemobj1"),
    "empty": ("", ""),
}
SHARE = {"empty", "ours", "boost"}  # blocks go from process to process

# Column: workload, workers, what of its output, times in a round (of which the
# least counts), rounds at most. Workers "2": processes for those who share,
# threads for the others; "2p" is two heaps there.
COLUMNS = {
    "pair": ("pair", "1", "cpu", 1, 99),
    "batch": ("batch", "1", "cpu", 1, 99),
    "pair2p": ("pair", "2p", "wall", 1, 99),
    "pair2t": ("pair", "2t", "wall", 1, 99),
    "batch2p": ("batch", "2p", "wall", 1, 99),
    "batch2t": ("batch", "2t", "wall", 1, 99),
    "xfree": ("xfree", "2", "wall", 1, 99),
    "larson": ("larson", "2", "wall", 1, 99),
    "large": ("large", "1", "cpu", 1, 99),
    "first": ("first", "1", "cpu", 3, 99),
    "frag": ("frag", "1", "frag", 1, 3),
    "cut": ("frag", "1", "cut", 1, 3),
    "held": ("frag", "1", "held", 1, 3),
    "later": ("frag", "1", "later", 1, 3),
    "trimmed": ("frag", "1", "trimmed", 1, 3),
}
MEMORY = [c for c, v in COLUMNS.items() if v[0] == "frag"]
# The harness has no heap, and pmemobj takes all memory at the start.
NO_MEMORY = {"empty", "pmemobj"}

# Ratio of ours to the least of these; at most this.
TARGETS = [
    ("pair", ("mimalloc", "tcmalloc"), 1.1),
    ("batch", ("mimalloc", "tcmalloc"), 1.1),
    ("batch2p", "batch", 0.55),  # ours to ours
    ("xfree", ("mimalloc", "tcmalloc"), 1.0),
    ("larson", ("mimalloc", "tcmalloc"), 1.0),
    ("large", ("mimalloc",), 1.0),
    ("first", ("mimalloc",), 1.2),
    ("frag", None, 1.15),  # as it is
    ("later", None, 1.6),
] + [(c, ("boost",), 1 / 5) for c in (
    "pair", "batch", "pair2p", "pair2t", "batch2p", "batch2t", "xfree",
    "larson", "first")] + [("large", ("boost",), 1.0)]


def chosen(variable, all_of_them):
    """What the environment picks; pair means pair2p, too."""
    names = os.environ.get(variable, "").replace(",", " ").split()

    def fits(k, n):
        return n in (k, all_of_them[k][0])
    bad = [n for n in names if not any(fits(k, n) for k in all_of_them)]
    if bad:
        sys.exit(f"{variable}: no {bad[0]}; there are {' '.join(all_of_them)}")
    return [k for k in all_of_them
            if not names or any(fits(k, n) for n in names)]


def run(name, workload, workers):
    """One run of a worker: {what: number}, or why there is none."""
    if workers == "2":
        workers = "2p" if name in SHARE else "2t"
    try:
        r = subprocess.run([f"{DIR}/work-{name}", workload, workers, FILE],
                           capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "takes more than a minute"
    finally:
        for left in glob.glob(FILE + "*"):
            os.unlink(left)
    if r.returncode:
        return (r.stderr.strip().splitlines() or [f"died {r.returncode}"])[-1]
    words = r.stdout.split()
    return dict(zip(words[::2], map(float, words[1::2])))


class Results:
    def __init__(self, columns, names):
        self.columns, self.names = columns, names
        self.rounds = {}  # (name, column): [number]
        self.bad = {}  # (name, workload, workers): why

    def one_round(self, r):
        runs = {COLUMNS[c][:2] + COLUMNS[c][3:] for c in self.columns}
        for workload, workers, times, most in sorted(runs):
            if r >= most:
                continue
            for name in random.sample(self.names, len(self.names)):
                if workload == "frag" and name in NO_MEMORY:
                    continue
                for _ in range(times):
                    self.keep(name, workload, workers, r)

    def keep(self, name, workload, workers, r):
        if (name, workload, workers) in self.bad:
            return
        got = run(name, workload, workers)
        if isinstance(got, str):
            self.bad[name, workload, workers] = got
            return
        for c in self.columns:
            if COLUMNS[c][:2] == (workload, workers):
                rounds = self.rounds.setdefault((name, c), [])
                v = got[COLUMNS[c][2]]
                rounds[r:] = [min([v] + rounds[r:])]

    def median(self, name, column):
        v = self.rounds.get((name, column))
        return statistics.median(v) if v else None

    def spread(self, name, column):
        v = sorted(self.rounds[name, column])
        return (v[3 * len(v) // 4] - v[len(v) // 4]) / 2

    # ----- tables -----

    def cell(self, name, column):
        m = self.median(name, column)
        if m is None:
            failed = (name,) + COLUMNS[column][:2] in self.bad
            return "failed" if failed else "-"
        if column in MEMORY:
            return f"{m:.2f}"
        digits = 1 if m < 100 else 0
        return f"{m:,.{digits}f} ±{self.spread(name, column):,.{digits}f}"

    def table(self, title, columns):
        columns = [c for c in columns if c in self.columns]
        if not columns:
            return
        rows = [[title] + columns, ["---"] * (len(columns) + 1)]
        rows += [[n] + [self.cell(n, c) for c in columns] for n in self.names
                 if any((n, c) in self.rounds for c in columns)]
        wide = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        for r in rows:
            print("| " + " | ".join(x.ljust(w) for x, w in zip(r, wide)) + " |")
        print()

    def mark(self, column, against):
        """Whose rounds ours are compared with, and what they are called."""
        if isinstance(against, str):
            return ("ours", against), f"our {against}"
        have = [(self.median(n, column), n) for n in against
                if self.median(n, column)]
        return ((min(have)[1], column), min(have)[1]) if have else (None, "")

    def targets(self):
        """The median of the rounds' ratios: what a whole round is slower by,
        a change of the machine's mood, is in both; and that of the least."""
        head = f"{'ours / the mark':20}{'rounds':>9}{'least':>9}{'at most':>9}\n"
        for column, against, most in TARGETS:
            ours = self.rounds.get(("ours", column))
            mark, what, name = [1.0] * ROUNDS, column, ""
            if against:
                key, name = self.mark(column, against)
                mark, what = self.rounds.get(key), f"{column} / {name}"
            if not ours or not mark:
                continue
            ratio = statistics.median(a / b for a, b in zip(ours, mark))
            verdict = "ok" if ratio <= most else "OVER"
            print(f"{head}{what:20}{ratio:9.3f}{min(ours) / min(mark):9.3f}"
                  f"{most:9.2f}  {verdict}")
            head = ""
        print()

    def csv(self, path, about):
        with open(path, "w", newline="", encoding="utf-8") as f:
            f.write("".join(f"# {line}\n" for line in about))
            out = csv.writer(f, lineterminator="\n")
            out.writerow(["allocator", "workload", "median", "spread", "least",
                          "most", "rounds"])
            for (n, c), v in self.rounds.items():
                out.writerow([n, c] + [f"{x:.3f}" for x in (
                    self.median(n, c), self.spread(n, c), min(v), max(v))] +
                    [len(v)])


def version(package):
    r = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                       capture_output=True, text=True, check=False)
    return r.stdout or "?"


def about(names):
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read())
    packages = [f"{n} {version(ALLOCATORS[n][1])}" for n in names
                if ALLOCATORS[n][1]]
    return [f"{cpu[1] if cpu else platform.machine()}, "
            f"{len(os.sched_getaffinity(0))} processors, "
            f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f}",
            ", ".join(packages)]


def main():
    columns = chosen("BENCH", COLUMNS)
    names = chosen("ONLY", ALLOCATORS)
    missing = [n for n in names if not os.path.exists(f"{DIR}/work-{n}")]
    results = Results(columns, [n for n in names if n not in missing])
    for r in range(ROUNDS):
        results.one_round(r)

    lines = about(results.names)
    results.table("ns for a malloc and its free",
                  [c for c in columns if c not in MEMORY])
    results.table("memory / live bytes", MEMORY)
    for name in missing:
        print(f"{name}: not there, needs {ALLOCATORS[name][0]}")
    for (name, workload, workers), why in results.bad.items():
        print(f"{name}, {workload} {workers}: {why}")
    results.targets()
    print("\n".join(lines))
    results.csv(f"{DIR}/heap.csv", lines)


main()
