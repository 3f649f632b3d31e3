#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""run.py - real programs on a heap in an arena: run.py SHIM.so [PROGRAM...]

Each runs with the C library's malloc, with the same through the shim, and with
the heap, in turns. What they print must be the same; the processor time of the
best of ROUNDS (3) is printed, and nothing is concluded from it.
"""
import glob
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SHIM = os.path.abspath(sys.argv[1])
ROUNDS = int(os.environ.get("ROUNDS", "3"))
WAYS = ("libc", "shim", "heap")

# They allocate much, and none of them forks but to exec.
PYTHON_TESTS = """test_dict test_list test_json test_unicode test_bytes
    test_sort test_heapq test_collections test_deque test_generators test_copy
    test_zlib test_array test_memoryview""".split()


def environment(way):
    env = dict(os.environ, LC_ALL="C", PYTHONHASHSEED="1",
               PYTHONMALLOC="malloc")  # else it asks malloc for little
    if way != "libc":
        env["LD_PRELOAD"] = SHIM
    if way == "shim":
        env["SHIM"] = "libc"
    return env


def run(way, command, cwd, given=None):
    """(processor seconds, output); ends the whole where the command fails."""
    with tempfile.TemporaryFile() as out:
        # In a session of its own: a program with wrong data kills anybody.
        p = subprocess.Popen(command, stdin=subprocess.PIPE if given else
                             subprocess.DEVNULL, stdout=out,
                             stderr=subprocess.STDOUT, cwd=cwd,
                             env=environment(way), start_new_session=True)
        if given:
            p.stdin.write(given)
            p.stdin.close()
        _, status, used = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if p.returncode:
        sys.stdout.write(text.decode(errors="replace")[-4000:])
        sys.exit(f"{way}: {' '.join(command)[:80]}: {p.returncode}")
    return used.ru_utime + used.ru_stime, text


def digest(text):
    return hashlib.sha256(text).hexdigest()[:12]


# ----- the programs; each is a generator of (name, run(way) -> (s, result))

def sqlite(where):
    sql = """
.bail on
PRAGMA temp_store=memory;
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT, n INT, body TEXT);
WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<150000)
 INSERT INTO t SELECT i, printf('key-%d', (i*7919)%150000), (i*31337)%1000,
  substr(hex(zeroblob(i%300)), 1, i%500) FROM c;
CREATE INDEX tk ON t(k); CREATE INDEX tn ON t(n, id);
SELECT count(*), sum(n), max(length(body)) FROM t;
SELECT n, count(*), group_concat(id) FROM t WHERE n<40 GROUP BY n ORDER BY 2, 1;
SELECT a.id, b.id FROM t a JOIN t b ON a.k=b.k AND a.n=b.n WHERE a.n=77 LIMIT 99;
SELECT id, sum(n) OVER (PARTITION BY n%13 ORDER BY id ROWS 5 PRECEDING)
 FROM t WHERE id%100=0;
SELECT json_group_array(json_object('k',k,'n',n)) FROM t WHERE id<5000;
UPDATE t SET body=body||k WHERE n%3=0;
DELETE FROM t WHERE id%7=0;
VACUUM;
PRAGMA integrity_check;
"""
    sql += "\n".join(
        f"INSERT INTO t(k,n,body) VALUES('x{i}',{i % 97},'{'y' * (i % 211)}');"
        f"SELECT count(*) FROM t WHERE n={i % 97} AND id<{i};"
        for i in range(20000))
    sql += "\n.dump t\n"

    def go(way):
        used, text = run(way, ["sqlite3", ":memory:"], where, sql.encode())
        return used, digest(text)
    yield "sqlite3, a script", go


def python(where):
    def go(way):
        used, text = run(way, ["/usr/bin/python3", "-m", "test", "-v",
                               *PYTHON_TESTS], where)
        # How each test went; not how long it took, nor in what order.
        lines = sorted(x for x in text.splitlines() if b" ... " in x)
        if b"Tests result: SUCCESS" not in text:
            lines.append(b"failed")
        return used, f"{len(lines)} tests, {digest(b' '.join(lines))}"
    yield f"python3, {len(PYTHON_TESTS)} test modules", go


def cc1(where):
    text = ["int printf(const char *, ...);\n"
            "unsigned long strlen(const char *);\n"]
    rng = random.Random(4)
    for i in range(300):
        a, b, c = (rng.randrange(1, 1000) for _ in range(3))
        text.append(f"""
struct s{i} {{ int a[{a % 50 + 1}]; char *p; struct s{i} *next; }};
int f{i}(struct s{i} *s, int n) {{
	int sum = {b};
	for (int i = 0; i < n; i++, s = s->next) {{
		if (!s) return -{c};
		switch (s->a[i % {a % 50 + 1}] & 7) {{
		case 0: sum += (int)strlen(s->p); break;
		case 1: sum ^= {a}; break;
		case 5: printf("%d {c}\\n", sum); break;
		default: sum = sum * {b} + i; break;
		}}
	}}
	return sum{f' + f{i - 1}((struct s{i - 1} *)s, n / 2)' if i else ''};
}}""")
    source, out = f"{where}/big.c", f"{where}/big.s"
    with open(source, "w", encoding="utf-8") as f:
        f.write("".join(text))
    program = subprocess.run(["gcc", "-print-prog-name=cc1"], text=True,
                             capture_output=True, check=True).stdout.strip()

    def go(way):
        used, _ = run(way, [program, "-quiet", "-O2", "-g", source, "-o", out],
                      where)
        with open(out, "rb") as f:
            return used, digest(f.read())
    yield "cc1 -O2, 300 functions", go


def redis(where):
    socket = f"{where}/redis.sock"
    rng = random.Random(4)
    commands = []
    for i in range(60000):
        k, v = rng.randrange(9000), "v" * rng.randrange(400)
        commands += rng.choice([
            [f"SET s{k} {i}{v}"], [f"APPEND s{k} {i}"], [f"DEL s{k}"],
            [f"LPUSH l{k % 99} {i}{v}"], [f"RPOP l{k % 99}"],
            [f"HSET h{k % 300} f{i % 50} {v}{i}"], [f"HDEL h{k % 300} f{k % 50}"],
            [f"SADD u{k % 200} {i % 700}"], [f"ZADD z{k % 100} {i} m{k}"]])
    filled = "\n".join(commands).encode() + b"\n"

    def cli(*args, given=None):
        return subprocess.run(["redis-cli", "-s", socket, *args], input=given,
                              capture_output=True, check=True).stdout

    def go(way):
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", socket, "--save",
             "", "--appendonly", "no", "--dir", where, "--logfile", "redis.log",
             "--enable-debug-command", "yes"], env=environment(way),
            start_new_session=True)
        try:
            while server.poll() is None and not os.path.exists(socket):
                time.sleep(0.02)
            if server.returncode is not None:
                sys.exit(f"{way}: redis-server: {server.returncode}")
            # --pipe wants no answers that differ: all of them are counted.
            cli("--pipe", given=filled)
            result = cli("DEBUG", "DIGEST").decode().strip()[:12]
            subprocess.run(["redis-benchmark", "-s", socket, "-q", "-n",
                            "60000", "-r", "20000", "-d", "200", "-P", "8",
                            "-t", "set,get,incr,lpush,rpop,sadd,hset,zadd"],
                           capture_output=True, check=True)
            cli("FLUSHALL")
            subprocess.run(["redis-cli", "-s", socket, "shutdown", "nosave"],
                           capture_output=True, check=False)
            _, status, used = os.wait4(server.pid, 0)
            server.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if server.returncode is None:
                os.kill(server.pid, signal.SIGKILL)
                server.wait()
            if os.path.exists(socket):
                os.unlink(socket)
        if server.returncode:
            sys.exit(f"{way}: redis-server ended with {server.returncode}")
        return used.ru_utime + used.ru_stime, result
    yield "redis-server, redis-benchmark", go


PROGRAMS = {"sqlite3": sqlite, "python3": python, "cc1": cc1,
            "redis-server": redis}
NEEDS = {"python3": "/usr/lib/python3*/test/test_dict.py"}


def there(program):
    if program in NEEDS:
        return bool(glob.glob(NEEDS[program]))
    return program == "cc1" or shutil.which(program)


def check_that_the_heap_is_used(where):
    for way in WAYS:
        _, text = run(way, ["cat", "/proc/self/maps"], where)
        if (b"/dev/shm/" in text) != (way == "heap"):
            sys.exit(f"{way}: wrong malloc")


def main():
    bad = ran = 0
    check_that_the_heap_is_used("/")
    print(f"{'processor seconds':32}{'C library':>10}{'with shim':>10}"
          f"{'heap':>10}{'heap/shim':>10}  result")
    for program in sys.argv[2:] or PROGRAMS:
        if not there(program):
            print(f"{program}: not there")
            continue
        with tempfile.TemporaryDirectory() as where:
            for name, go in PROGRAMS[program](where):
                best, results = {}, {}
                for _ in range(ROUNDS):
                    for way in WAYS:
                        used, result = go(way)
                        best[way] = min(used, best.get(way, 1e9))
                        results.setdefault(way, set()).add(result)
                same = all(results[w] == results["libc"] and
                           len(results[w]) == 1 for w in WAYS)
                ran += 1
                bad += not same
                print(f"{name:32}" + "".join(f"{best[w]:10.2f}" for w in WAYS)
                      + f"{best['heap'] / best['shim']:10.2f}  "
                      + (f"same: {results['heap'].pop()}" if same
                         else f"DIFFERENT: {results}"), flush=True)
    left = glob.glob("/dev/shm/libshmem-shim-*")
    if left:
        print("left behind:", *left)
    sys.exit(1 if bad or left or not ran else 0)


main()
