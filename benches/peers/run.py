#!/usr/bin/env python3
"""Reboots 10,000 devices over MQTT with fleetform and with two scripts, and prints what each of them took.

    python3 benches/peers/run.py [--fleetform target/release/fleetform] [--devices N] [--rounds N]

All of them have the same Mosquitto and the same devices, which answer after 50 to 150 ms, and at most 1,000 commands
under way. Wall time, CPU time and memory are medians of the rounds. Then each is killed when half of the devices have
executed the command, and started again: the devices' own journal says how many executed it twice, and how many never.
"""

import argparse
import collections
import contextlib
import csv
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
NAMES = {"fleetform": "fleetform", "asyncio": "asyncio, aiomqtt", "nornir": "Nornir, paho-mqtt"}
WINDOW = 1_000
TIMEOUT_SECONDS = 30
# What anything that is started has to get ready or to end.
PATIENCE_SECONDS = 300
# Open files beyond one for each device.
SPARE_FILES = 200
BROKER = """listener %d 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
"""
FLEET = """apiVersion: fleetform/v1
kind: Fleet
metadata: {name: peers}
spec:
  link: {mqtt: {url: "mqtt://127.0.0.1:%d"}}
  limits: {inFlight: %d}
---
apiVersion: fleetform/v1
kind: DeviceImport
metadata: {name: all}
spec: {file: devices.csv}
"""
JOB = """apiVersion: fleetform/v1
kind: Job
metadata: {name: %s}
spec:
  target: {query: "*"}
  action: {command: {name: reboot, payload: {delay: 5}, responseTimeout: %ds}}
"""

# The last is the CPU time that the broker and the devices took meanwhile.
Measured = collections.namedtuple("Measured", "wall_seconds cpu_seconds peak_mib around_seconds")


def must(arguments, **more):
    """Runs a command that has to succeed, and returns its output."""
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE_SECONDS, **more)
    if ran.returncode != 0:
        sys.exit(f"{arguments} failed with {ran.returncode}: {ran.stderr}")
    return ran.stdout


def wait_for(what, is_so):
    """Waits until a condition holds."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > until:
            sys.exit(f"{what} did not come in {PATIENCE_SECONDS} s")
        time.sleep(0.01)


@contextlib.contextmanager
def running(arguments, log, folder=None):
    """A process that ends with the block, and writes to a log."""
    with open(log, "wb") as file:
        process = subprocess.Popen(arguments, cwd=folder, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_seconds(process):
    """Returns the CPU time that a running process has taken: members 14 and 15 of its stat, see proc(5)."""
    after_name = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def python_with_packages(folder):
    """Returns this interpreter when it has the packages of the scripts, else that of a new virtual environment."""
    look = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in ('aiomqtt', 'nornir', 'paho-mqtt')))"
    python = sys.executable
    if subprocess.run([python, "-c", look], capture_output=True).returncode != 0:
        must([sys.executable, "-m", "venv", folder / "venv"])
        python = folder / "venv/bin/python"
        must([python, "-m", "pip", "install", "--quiet", "--requirement", HERE / "requirements.txt"])
    return python, must([python, "-c", look]).strip()


class Bench:
    """The broker, the devices and the three that are measured, in one folder."""

    def __init__(self, folder, options, python, port):
        self.folder, self.program, self.python, self.port = folder, options.fleetform, python, port
        self.devices = options.devices
        self.journal = folder / "executed.jsonl"
        self.fleet = folder / "fleet"
        self.around = []

    def start(self, stack):
        """Starts the broker and the devices, and waits until all of these are connected."""
        (self.folder / "mosquitto.conf").write_text(BROKER % self.port)
        broker = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if broker is None:
            sys.exit("mosquitto is missing: apt install mosquitto")
        broker = running([broker, "-c", self.folder / "mosquitto.conf"], self.folder / "broker.log")
        self.around.append(stack.enter_context(broker))
        wait_for("the broker", lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0)
        log = self.folder / "devices.log"
        url = f"mqtt://127.0.0.1:{self.port}"
        fleet = [self.program, "device", "fleet", "--ids-from", self.folder / "devices.csv", "--broker", url]
        fleet += ["--latency", "50ms..150ms", "--journal", self.journal]
        self.around.append(stack.enter_context(running(fleet, log)))
        all_connected = f"{self.devices:,} of {self.devices:,} devices connected"
        wait_for(all_connected, lambda: all_connected in log.read_text())

    def make_fleet(self):
        """Makes a fleet that has imported the devices, and the file of devices for the scripts."""
        rows = "".join(f"device-{n:07}\n" for n in range(self.devices))
        (self.folder / "devices.csv").write_text("IOTC_DEVICEID\n" + rows)
        self.fleet.mkdir()
        must(["git", "init", "-q", "-b", "main", self.fleet])
        for name, value in [("user.name", "B"), ("user.email", "b@example.com"), ("gc.auto", "0")]:
            must(["git", "config", name, value], cwd=self.fleet)
        (self.fleet / ".gitignore").write_text(".fleetform/\n")
        (self.fleet / "fleetform.yaml").write_text(FLEET % (self.port, WINDOW))
        shutil.copy(self.folder / "devices.csv", self.fleet)
        self.commit()
        must([self.program, "init"], cwd=self.fleet)

    def commit(self):
        must(["git", "add", "-A"], cwd=self.fleet)
        must(["git", "commit", "-q", "-m", "A change"], cwd=self.fleet)

    def command(self, who, job):
        """Returns what reboots all devices once; for fleetform a job with this name is committed."""
        if who == "fleetform":
            (self.fleet / f"{job}.yaml").write_text(JOB % (job, TIMEOUT_SECONDS))
            self.commit()
            return [self.program, "apply", "--yes"]
        devices, results = self.folder / "devices.csv", self.folder / f"{who}-{job}.csv"
        script = HERE / f"{who}_peer.py"
        return [str(part) for part in (self.python, script, self.port, devices, results, WINDOW, TIMEOUT_SECONDS)]

    def without_answer(self, who, job):
        """Returns the devices that have no 200 in the results, which have a row for each device."""
        results = self.folder / f"{who}-{job}.csv"
        if who == "fleetform":
            must([self.program, "job", "results", job, "-o", results], cwd=self.fleet)
        with open(results, newline="") as file:
            rows = list(csv.DictReader(file))
        if len(rows) != self.devices:
            sys.exit(f"{results} has {len(rows)} rows, of {self.devices} devices")
        return {row["device_id"] for row in rows if row["status"] not in ("200", "completed")}

    def executions(self, since):
        """Returns how many lines the journal has after a place."""
        with open(self.journal, "rb") as file:
            file.seek(since)
            return file.read().count(b"\n")

    def executed(self, since):
        """Returns how often each device has executed a command after a place of the journal."""
        with open(self.journal, "rb") as file:
            file.seek(since)
            return collections.Counter(json.loads(line)["device_id"] for line in file if line.endswith(b"\n"))

    def place(self):
        """Returns where the journal ends, once the devices have been quiet for a second."""
        before = -1
        while before != (now := self.journal.stat().st_size):
            before = now
            time.sleep(1)
        return now

    def measure(self, command):
        """Runs a command to its end. The CPU time is that of the process and of the ones it has started."""
        around = sum(map(cpu_seconds, self.around))
        began = time.monotonic()
        with running(command, self.folder / "measured.log", self.fleet) as process:
            peak_kib = pid = 0
            while pid == 0:
                # The high-water mark only grows: the last that is seen is at most 10 ms old.
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                peak_kib = next((int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line), peak_kib)
                time.sleep(0.01)
                pid, code, used = os.wait4(process.pid, os.WNOHANG)
            wall = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode != 0:
            sys.exit(f"{command} failed: {(self.folder / 'measured.log').read_text()}")
        around = sum(map(cpu_seconds, self.around)) - around
        return Measured(wall, used.ru_utime + used.ru_stime, peak_kib / 1024, around)

    def round(self, who, job):
        """Returns what one run took, in which every device executed once and answered."""
        since = self.place()
        measured = self.measure(self.command(who, job))
        executed = self.executed(since)
        if len(executed) != self.devices or max(executed.values()) != 1 or self.without_answer(who, job):
            sys.exit(f"{who}: not every device executed {job} once and answered")
        return measured

    def kill(self, who, job):
        """Kills a run in the middle and starts it again; returns how many devices did it twice, never, unknown."""
        since = self.place()
        command = self.command(who, job)
        with running(command, self.folder / "killed.log", self.fleet) as process:
            wait_for("the middle", lambda: self.executions(since) >= self.devices // 2)
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                sys.exit(f"{who} had ended before it was killed")
        self.place()
        self.measure(command)
        executed = self.executed(since)
        twice = sum(times > 1 for times in executed.values())
        unknown = self.without_answer(who, job)
        if who == "fleetform" and twice != 0:
            sys.exit(f"{twice} devices executed a command of fleetform twice")
        if len(executed.keys() | unknown) != self.devices:
            sys.exit(f"{who}: the results have an answer of a device that never executed the command")
        return twice, self.devices - len(executed), len(unknown)


def table(measured, killed):
    """Prints a row for each, with the ratios to fleetform."""
    median = {who: Measured(*map(statistics.median, zip(*rounds))) for who, rounds in measured.items()}
    heads = f"{'':<18}{'wall s':>14}{'CPU s':>14}{'peak MiB':>15}{'CPU s around':>15}"
    print(f"{heads}   after kill -9: twice  never  unknown")
    for who, values in median.items():
        cells = [f"{value:.2f} ({value / ours:.2f})" for value, ours in zip(values, median["fleetform"])]
        counts = "{:>20,} {:>6,} {:>8,}".format(*killed[who])
        print(f"{NAMES[who]:<18}{cells[0]:>14}{cells[1]:>14}{cells[2]:>15}{cells[3]:>15}   {counts}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fleetform", default="target/release/fleetform", help="the binary that is measured")
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.fleetform = os.path.abspath(options.fleetform)
    if not os.access(options.fleetform, os.X_OK):
        sys.exit(f"{options.fleetform} is no program: run `cargo build --release`, or name one with --fleetform")
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max < options.devices + SPARE_FILES:
        sys.exit(f"{options.devices} devices need {options.devices + SPARE_FILES} open files, of {files_max} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    with tempfile.TemporaryDirectory(prefix="fleetform-peers-") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        python, packages = python_with_packages(folder)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        bench = Bench(folder, options, python, port)
        bench.make_fleet()
        bench.start(stack)
        must([bench.program, "apply", "--yes"], cwd=bench.fleet)
        load = os.getloadavg()[0]
        measured = {who: [] for who in NAMES}
        for number in range(options.rounds):
            for who, rounds in measured.items():
                rounds.append(bench.round(who, f"round-{number}"))
        killed = {who: bench.kill(who, "killed") for who in NAMES}
        print(f"{options.devices:,} devices, {WINDOW:,} commands under way, {options.rounds} rounds, median (ratio)")
        print(f"{must([bench.program, '--version']).strip()} ({options.fleetform}), {packages}")
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {load:.1f} to {os.getloadavg()[0]:.1f}\n")
        table(measured, killed)


main()
