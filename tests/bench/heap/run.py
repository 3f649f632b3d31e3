#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""run.py - runs the heap benchmark's workers and compares. run.py DIRECTORY

All allocators take turns, in an order that changes from round to round, so
that what disturbs the machine disturbs all of them. Printed is the median of
the rounds and, with +-, half of what the middle half of the rounds spans.
BENCH=pair,batch picks workloads, ONLY=ours,mimalloc allocators, ROUNDS=n.
"""
import csv
import os
import random
import statistics
import subprocess
import sys

DIR = sys.argv[1]
ROUNDS = int(os.environ.get("ROUNDS", "7"))
FILE = f"/dev/shm/libshmem-bench-{os.getpid()}"

ALLOCATORS = {  # worker: the Debian package that it needs
    "empty": "",
    "ours": "",
    "mimalloc": "libmimalloc-dev",
    "tcmalloc": "libgoogle-perftools-dev",
    "jemalloc": "libjemalloc-dev",
    "libc": "",
    "boost": "libboost-dev and g++",
    "pmemobj": "libpmemobj-dev",
}
SHARE = {"empty", "ours", "boost"}  # blocks go from process to process

# column: workload, workers, clock. Where blocks change hands, those who cannot
# share have threads.
COLUMNS = {
    "pair": ("pair", "1", "cpu"),
    "batch": ("batch", "1", "cpu"),
    "pair2p": ("pair", "2p", "wall"),
    "batch2p": ("batch", "2p", "wall"),
    "pair2t": ("pair", "2t", "wall"),
    "batch2t": ("batch", "2t", "wall"),
    "xfree": ("xfree", "2", "wall"),
    "large": ("large", "1", "cpu"),
}


def chosen(variable, all_of_them):
    """What the environment picks; a workload's name means its variants too."""
    names = os.environ.get(variable, "").replace(",", " ").split()
    bad = [n for n in names if not any(k.startswith(n) for k in all_of_them)]
    if bad:
        sys.exit(f"{variable}: no {bad[0]}; there are {' '.join(all_of_them)}")
    return [k for k in all_of_them
            if not names or any(k.startswith(n) for n in names)]


def run(name, column):
    """One run of a worker: {what: number}, or why there is none."""
    workload, workers, _ = COLUMNS[column]
    if workers == "2":
        workers = "2p" if name in SHARE else "2t"
    try:
        r = subprocess.run([f"{DIR}/work-{name}", workload, workers, FILE],
                           capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "takes more than a minute"
    if r.returncode:
        return (r.stderr.strip().splitlines() or ["died"])[-1]
    words = r.stdout.split()
    return dict(zip(words[::2], map(float, words[1::2])))


def main():
    columns = chosen("BENCH", COLUMNS)
    names = chosen("ONLY", ALLOCATORS)
    missing = [n for n in names if not os.path.exists(f"{DIR}/work-{n}")]
    names = [n for n in names if n not in missing]
    got, bad = {}, {}
    for r in range(ROUNDS):
        for column in columns:
            for name in random.sample(names, len(names)):
                if (name, column) in bad:
                    continue
                result = run(name, column)
                if isinstance(result, str):
                    bad[name, column] = result
                    continue
                got.setdefault((name, column), []).append(result)
    report(columns, names, missing, got, bad)


def median(got, name, column):
    rounds = got.get((name, column))
    if not rounds:
        return None
    return statistics.median(r[COLUMNS[column][2]] for r in rounds)


def spread(got, name, column):
    v = sorted(r[COLUMNS[column][2]] for r in got[name, column])
    return (v[3 * len(v) // 4] - v[len(v) // 4]) / 2


def report(columns, names, missing, got, bad):
    print("ns for a malloc and its free")
    print(f"{'':10}" + "".join(f"{c:>16}" for c in columns))
    for name in names:
        line = f"{name:10}"
        for c in columns:
            m = median(got, name, c)
            line += f"{'failed':>16}" if m is None else (
                f"{m:>{10}.{1 if m < 100 else 0}f}"
                f" +-{spread(got, name, c):<3.{1 if m < 100 else 0}f}")
        print(line)
    for name in missing:
        print(f"{name:10} not there: needs {ALLOCATORS[name]}")
    for (name, column), why in bad.items():
        print(f"{name}, {column}: {why}")


main()
