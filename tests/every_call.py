#!/usr/bin/env python3
"""Kills an apply at each system call that changes a file, and looks whether the next one mends what is left.

    python3 tests/every_call.py target/debug/fleetform [--every N] [--remote]

For each write, rename, unlink, link and fsync of one `apply` (in the process and in the git that it starts) a copy of
the same fleet is made, and `strace` kills the caller there (`--every 5`: at each fifth). A plain `apply` follows, then
it is checked: it ends with 0, the job has completed, no device executed it twice, no lock is left, `git fsck` finds
nothing, and a third `apply` has nothing to do. Prints the number of kills for each call. Needs strace.
"""

import argparse
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

CALLS = ["write", "pwrite64", "rename", "renameat2", "unlink", "unlinkat", "link", "linkat", "fsync", "fdatasync", "ftruncate", "mkdir"]
DEVICES = 4
FLEET = """apiVersion: fleetform/v1
kind: Fleet
metadata: {name: calls}
spec: {%slink: {simulated: {latency: 1ms, journal: devices.jsonl}}}
---
apiVersion: fleetform/v1
kind: DeviceImport
metadata: {name: all}
spec: {file: devices.csv}
---
apiVersion: fleetform/v1
kind: Job
metadata: {name: reboot}
spec: {target: {query: '*'}, action: {command: {name: reboot}}, delivery: {batchSize: 2}}
"""


def run(arguments, folder, **more):
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=120, **more)


def must(arguments, folder):
    ran = run(arguments, folder)
    if ran.returncode != 0:
        sys.exit(f"{arguments} failed: {ran.stderr}")
    return ran.stdout


def make(folder, program, has_remote):
    """Makes a fleet with a job that has not run."""
    fleet = folder / "fleet"
    fleet.mkdir()
    must(["git", "init", "-q", "-b", "main"], fleet)
    for name, value in [("user.name", "T"), ("user.email", "t@example.com"), ("gc.auto", "0")]:
        must(["git", "config", name, value], fleet)
    (fleet / ".gitignore").write_text(".fleetform/\ndevices.jsonl\n")
    (fleet / "fleetform.yaml").write_text(FLEET % ("results: {remote: origin}, " if has_remote else ""))
    (fleet / "devices.csv").write_text("IOTC_DEVICEID\n" + "".join(f"d-{n}\n" for n in range(DEVICES)))
    must(["git", "add", "-A"], fleet)
    must(["git", "commit", "-q", "-m", "fleet"], fleet)
    must([program, "init"], fleet)
    if has_remote:
        must(["git", "init", "-q", "--bare", "-b", "main", "../remote.git"], fleet)
        must(["git", "remote", "add", "origin", "../remote.git"], fleet)
        must(["git", "push", "-q", "origin", "main"], fleet)


def count(folder, program):
    """Returns how often each call is made by an apply, in any of its processes."""
    log = folder / "trace"
    trace = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=" + ",".join(CALLS)]
    must(trace + [program, "apply", "--yes"], folder / "fleet")
    counts = collections.Counter()
    by_process = collections.Counter()
    for line in log.read_text().splitlines():
        pid, _, rest = line.partition(" ")
        call = rest.strip().partition("(")[0]
        if call in CALLS:
            by_process[(pid, call)] += 1
    # strace counts the calls of each process by itself: the one that makes most of a call gives the range.
    for (_, call), calls in by_process.items():
        counts[call] = max(counts[call], calls)
    return counts


def check(folder, program, what):
    """Applies again and returns what is wrong then."""
    fleet = folder / "fleet"
    ran = run([program, "apply", "--yes"], fleet)
    # What the message says of the server's own lock is done to the letter.
    lock = folder / "remote.git/refs/heads/fleetform/results.lock"
    if ran.returncode == 69 and "remove `refs/heads/fleetform/results.lock`" in ran.stderr and lock.exists():
        lock.unlink()
        ran = run([program, "apply", "--yes"], fleet)
    wrong = []
    if ran.returncode not in (0, 3):
        wrong.append(f"the next apply ends with {ran.returncode}: {ran.stderr.strip()}")
    records = [json.loads(line) for line in run([program, "--json", "job", "list"], fleet).stdout.splitlines()]
    if [record.get("status") for record in records] != ["completed"]:
        wrong.append(f"the job is {records}")
    journal = fleet / "devices.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    executed = collections.Counter(line["device_id"] for line in lines if line.get("method") == "reboot")
    if any(times > 1 for times in executed.values()):
        wrong.append(f"executed {executed}")
    if records and records[0].get("total") != DEVICES:
        wrong.append(f"counts {records[0]}")
    locks = [str(path) for path in (fleet / ".git").rglob("*.lock")]
    if locks:
        wrong.append(f"locks are left: {locks}")
    fsck = run(["git", "fsck", "--strict", "--no-dangling"], fleet)
    if fsck.returncode != 0:
        wrong.append(f"git fsck: {fsck.stdout}{fsck.stderr}")
    again = run([program, "apply", "--yes"], fleet)
    if again.returncode != 0 or "othing to do" not in again.stdout + again.stderr:
        wrong.append(f"the third apply: {again.returncode} {again.stdout}{again.stderr}")
    return [f"{what}: {one}" for one in wrong]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--remote", action="store_true")
    options = parser.parse_args()
    program = str(pathlib.Path(options.program).absolute())
    os.environ.pop("FLEETFORM_REGISTRY", None)
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    failures, kills = [], collections.Counter()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as top:
        top = pathlib.Path(top)
        (top / "origin").mkdir()
        make(top / "origin", program, options.remote)
        shutil.copytree(top / "origin", top / "counted", symlinks=True)
        counts = count(top / "counted", program)
        for call in CALLS:
            for number in range(1, counts[call] + 1, options.every):
                folder = top / "one"
                shutil.copytree(top / "origin", folder, symlinks=True)
                inject = f"inject={call}:signal=KILL:when={number}"
                strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
                ran = run(strace + [program, "apply", "--yes"], folder / "fleet")
                if ran.returncode != 0:
                    kills[call] += 1
                failures += check(folder, program, f"{call} {number}")
                shutil.rmtree(folder)
    for call in CALLS:
        print(f"{call:<10} {counts[call]:>5} calls, killed at {kills[call]}")
    for failure in failures:
        print(failure)
    print(f"{sum(kills.values())} kills, {len(failures)} failures")
    sys.exit(1 if failures else 0)


main()
