"""Processes, CPUs, CPU time, memory and ports of the machine. Everything that is started ends with the benchmark."""

import contextlib
import ctypes
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
HARNESS = ROOT / "target/bench/release"
DAEMON = ROOT / "target/release/mediaconnectd"

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    """The measurement could not be made."""


def build():
    """The daemon as it is shipped, and the harness."""
    release = ["cargo", "build", "--release", "--locked", "--quiet"]
    subprocess.run([*release, "--bin", "mediaconnectd"], cwd=ROOT, check=True)
    subprocess.run([*release, "--bins"], cwd=HERE, check=True)


class CpuAccount:
    """CPU time of a group of processes, in ns: by a cgroup of their own, which counts what the scheduler gave them,
    or where none can be made by /proc, which forgets threads that ended."""

    def __init__(self):
        self._folder, self.method = None, "/proc"
        name = f"mediaconnect-bench-{os.getpid()}"
        for base, figure in (
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage"),
            ("/sys/fs/cgroup/cpu,cpuacct", "cpuacct.usage"),
            ("/sys/fs/cgroup", "cpu.stat"),
            ("/sys/fs/cgroup/unified", "cpu.stat"),
        ):
            folder = pathlib.Path(base, name)
            try:
                folder.mkdir()
            except OSError:
                continue
            if (folder / figure).exists() and (folder / "cgroup.procs").exists():
                self._folder, self._figure, self.method = folder, folder / figure, f"cgroup, {figure}"
                return
            folder.rmdir()

    def join(self):
        """Puts the calling process into the group."""
        if self._folder:
            (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def read_ns(self, processes):
        if not self._folder:
            return sum(_schedstat_ns(p.pid) for p in processes)
        text = self._figure.read_text()
        if self._figure.name == "cpuacct.usage":
            return int(text)
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) * 1000

    def close(self):
        # The kernel needs a moment to let go of processes that have just ended.
        for _ in range(100):
            if not self._folder or not self._folder.exists():
                return
            try:
                self._folder.rmdir()
            except OSError:
                time.sleep(0.02)


def _schedstat_ns(pid):
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(task.read_text().split()[0])
    return total


class Machine:
    """A place to measure in. A context: at its end all processes have ended and all files are gone."""

    def __init__(self):
        self._processes = []
        self._account = None
        cpus = sorted(os.sched_getaffinity(0))
        self.load_cpu, self.contestant_cpu = cpus[0], cpus[1 % len(cpus)]
        self.alone = len(cpus) > 1

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        self._account = CpuAccount()
        self._folder = tempfile.mkdtemp(prefix="mediaconnect-bench-")
        self._errors = open(os.path.join(self._folder, "stderr"), "w+")
        return self

    def __exit__(self, *_):
        for process in list(self._processes):
            process.kill()
        for process in list(self._processes):
            process.wait()
        self._account.close()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def accounting(self):
        return self._account.method

    def folder(self):
        """An empty directory."""
        return pathlib.Path(tempfile.mkdtemp(dir=self._folder))

    def start(self, argv, *, contestant=False, realtime=False, **popen):
        """Starts a process on the CPU that is its place; a contestant's CPU time is counted."""
        cpu = self.contestant_cpu if contestant else self.load_cpu
        parent = os.getpid()

        def prepare():
            # Also when the benchmark is killed outright.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            os.sched_setaffinity(0, {cpu})
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            if contestant:
                self._account.join()
            if realtime:
                # Without the right to it the schedule is a little less exact.
                with contextlib.suppress(PermissionError):
                    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))

        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": self._errors, **popen}
        process = subprocess.Popen([str(a) for a in argv], preexec_fn=prepare, **popen)
        self._processes.append(process)
        return process

    def stop(self, processes, patience=2.0):
        """SIGTERM to all of them, and SIGKILL to those that don't end."""
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + patience
        for process in processes:
            try:
                process.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process in self._processes:
                self._processes.remove(process)

    def answer(self, process, seconds=30):
        """What a sender or sink prints as JSON when it ends; it is let end by the end of its input."""
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{process.args[0]} does not end") from None
        self._processes.remove(process)
        if process.returncode != 0:
            raise BenchError(f"{process.args[0]} ended with {process.returncode}: {self.last_error()}")
        return json.loads(out)

    def last_error(self):
        """The end of what the processes wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read()[-500:].strip()

    def cpu_ns(self, processes):
        return self._account.read_ns(processes)

    def wait_bound(self, ports, processes, seconds=20):
        """Waits until all of these UDP ports are open; how long it took."""
        wanted = set(ports)
        fault = f"{processes[0].args[0]} does not open its ports"
        return self.wait_until(lambda: wanted <= udp_sockets().keys(), fault, processes, seconds)

    def wait_until(self, done, fault, processes, seconds=20):
        """Waits until it is done, while these run; how long it took."""
        start = time.monotonic()
        while not done():
            dead = [p for p in processes if p.poll() is not None]
            if dead:
                raise BenchError(f"{dead[0].args[0]} ended with {dead[0].returncode}: {self.last_error()}")
            if time.monotonic() - start > seconds:
                raise BenchError(f"{fault}: {self.last_error()}")
            time.sleep(0.005)
        return time.monotonic() - start


def memory_kib(processes):
    """Resident and proportional memory, and the number of threads."""
    resident = proportional = threads = 0
    for process in processes:
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                key, *value = line.split()
                resident += int(value[0]) if key == "Rss:" else 0
                proportional += int(value[0]) if key == "Pss:" else 0
            threads += len(os.listdir(f"/proc/{process.pid}/task"))
    return resident, proportional, threads


def udp_sockets():
    """Of each open UDP port, how many datagrams were dropped because its buffer was full."""
    drops = {}
    for name in ("udp", "udp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                port = int(fields[1].rsplit(":", 1)[1], 16)
                drops[port] = drops.get(port, 0) + int(fields[-1])
    return drops


def dropped(ports):
    """How many datagrams were dropped in the buffers of these ports."""
    drops = udp_sockets()
    return sum(drops.get(port, 0) for port in ports)


def free_ports(count):
    """That many free UDP ports, one after the other, below those that the system hands out by itself."""
    first_ephemeral = 32768
    with contextlib.suppress(OSError, ValueError):
        first_ephemeral = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    lowest, highest = (10_000, first_ephemeral) if first_ephemeral > 20_000 else (max(first_ephemeral, 1024), 65_000)
    for _ in range(200):
        first = random.randrange(lowest, highest - count, 2)
        ports = list(range(first, first + count))
        if not udp_sockets().keys() & ports and all(map(_bindable, ports)):
            return ports
    raise BenchError(f"no {count} free UDP ports in a row between {lowest} and {highest}")


def _bindable(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def facts():
    """What a reader has to know about this machine."""
    cpu = "unknown CPU"
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release.split("-")[0],
        "date": time.strftime("%Y-%m-%d"),
    }
