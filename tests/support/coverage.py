#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""coverage.py DIR - lines of src/ that a run of DIR's build has executed.

Those that were not are printed with the reason that uncovered.txt beside this
file has for their function; more than CHANCE lines without one are a failure,
as are less than 95 % of all.
"""
import glob
import json
import os
import subprocess
import sys

WANTED = 95.0
CHANCE = 12  # lines that one run in a hundred does not reach: races, deaths
here = os.path.dirname(os.path.abspath(__file__))


def read_reasons():
    """{(file, function): [how many lines at most, reason]}"""
    reasons = {}
    with open(os.path.join(here, "uncovered.txt"), encoding="ascii") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, function, most, reason = line.split(None, 3)
                most = sys.maxsize if most == "*" else int(most)
                reasons[name, function] = [most, reason.strip()]
    return reasons


def lines_of(build, source):
    """(line, function, executed), without those of headers"""
    out = subprocess.run(
        ["gcov", "--json-format", "--stdout", os.path.join(build, source[:-2] + ".gcda")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    lines = {}
    for f in json.loads(out)["files"]:
        if f["file"] == source:
            for l in f["lines"]:
                key = l["line_number"], l.get("function_name", "-")
                lines[key] = lines.get(key, 0) + l["count"]
    return [(n, function, count > 0) for (n, function), count in sorted(lines.items())]


def main():
    build = os.path.abspath(sys.argv[1])
    os.chdir(os.path.join(here, "..", ".."))
    reasons = read_reasons()
    missed, total, hit, bad = {}, 0, 0, 0
    for path in sorted(glob.glob("src/*/*.c")):
        data = os.path.join(build, path[:-2] + ".gcda")
        source = os.path.basename(path)
        if not os.path.exists(data):
            continue
        lines = lines_of(build, path)
        done = sum(executed for _, _, executed in lines)
        print(f"{path:22} {done:4} of {len(lines):4} lines, {100 * done / len(lines):5.1f} %")
        total += len(lines)
        hit += done
        for n, function, executed in lines:
            if not executed:
                missed.setdefault((path, function), []).append(n)
    print("not run:")
    for (path, function), numbers in missed.items():
        source = os.path.basename(path)
        most, reason = reasons.get((source, function), [0, "-"])
        if len(numbers) > most:
            bad += len(numbers) - most
            reason = f"NO REASON in tests/support/uncovered.txt for more than {most} lines"
        print(f"{source} {function}(): {reason}")
        with open(path, encoding="ascii") as f:
            text = f.read().split("\n")
        for n in numbers:
            print(f"    {n}: {text[n - 1].strip()}")
    print(f"coverage: {hit} of {total} lines of src, {100 * hit / total:.1f} %")
    return bad > CHANCE or 100 * hit < WANTED * total


sys.exit(main())
