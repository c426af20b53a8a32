"""One measurement: contestant, sender and sink side by side, and what comes of them."""

import contextlib
import socket
import subprocess
import time

from .contestants import DATAGRAM, Flow, Work
from .machine import HARNESS, BenchError, dropped, free_ports, memory_kib

BITS = DATAGRAM * 8
"""Bits of transport stream in a datagram: rates are of those, RTP headers apart."""
WARM_UP = 0.5
"""Seconds of traffic before the window that counts."""
DRAIN = 0.3
"""Seconds for what is still on its way when the sender has ended."""


def work(machine, flows=1, outputs=1, rtp=False, workers=None):
    """Work on ports that are free."""
    ports = free_ports(flows * (1 + outputs))
    sources, rest = ports[:flows], ports[flows:]
    each = [Flow(source, rest[n * outputs : (n + 1) * outputs]) for n, source in enumerate(sources)]
    return Work(each, machine.folder(), rtp, workers)


class Running:
    """A contestant at work."""

    def __init__(self, machine, contestant, work, processes, seconds_to_bound):
        self.machine, self.contestant, self.work = machine, contestant, work
        self.processes, self.seconds_to_bound = processes, seconds_to_bound

    @property
    def to_ports(self):
        """Where a sender has to send."""
        return self.work.output_ports if self.contestant.kind == "none" else self.work.source_ports

    def alive(self):
        """Raises where a process of it has ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise BenchError(f"{process.args[0]} ended with {process.returncode}: {self.machine.last_error()}")


@contextlib.contextmanager
def running(machine, contestant, work):
    """Starts a contestant and waits until all its ports are open. Yields None where it can't do the work."""
    commands = contestant.commands(work)
    if commands is None:
        yield None
        return
    processes = []
    try:
        start = time.monotonic()
        for command in commands:
            processes.append(machine.start(command, contestant=True))
        if processes:
            machine.wait_bound(work.source_ports, processes)
        yield Running(machine, contestant, work, processes, time.monotonic() - start)
    finally:
        machine.stop(processes)


def ports_argument(ports):
    return ",".join(map(str, ports))


class Sink:
    """Receives on some ports; a context, with the figures in `result` after it. With `called` it receives by SRT: from
    each port it calls one of these, and all calls are answered when the context begins."""

    def __init__(self, machine, ports, skip=0, coalesce=False, called=()):
        self._machine, self._ports = machine, ports
        self._ready = machine.folder() / "ready" if called else None
        options = ["--ports", ports_argument(ports), "--skip", skip, "--since-ns", time.time_ns()]
        options += ["--coalesce"] if coalesce else []
        options += ["--srt", ports_argument(called), "--ready", self._ready] if called else []
        self._options, self.result = options, None

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = self._machine.start([HARNESS / "sink", *self._options], **pipes)
        self._machine.wait_bound(self._ports, [self._process])
        if self._ready:
            self._machine.wait_until(self._ready.exists, "not all SRT receivers are connected", [self._process])
        return self

    def __exit__(self, kind, *_):
        if kind:
            self._machine.stop([self._process])
            return
        time.sleep(DRAIN)
        drops = dropped(self._ports)
        self.result = self._machine.answer(self._process)
        self.result["dropped"] = drops


class Primer:
    """Null packets into a port until some come out of another: a connection is made when they do. A context, before which
    nobody has that port, and after which it is free."""

    NULLS = b"\x47\x1f\xff\x10".ljust(188, b"\xff") * 7

    def __init__(self, entry, exit):
        self._entry, self._exit = entry, exit

    def __enter__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self._exit))
        self._socket.setblocking(False)
        return self

    def __exit__(self, *_):
        self._socket.close()

    def has_come(self):
        self._socket.sendto(self.NULLS, ("127.0.0.1", self._entry))
        try:
            return bool(self._socket.recv(65536))
        except OSError:
            # Nothing yet, or nobody there yet.
            return False


def sender(machine, ports, rate, seconds, rtp=False, tick_us=None, train=1, realtime=True):
    """Starts a sender of `rate` bit/s a port; `machine.answer` has its figures."""
    if tick_us is None:
        # Fast streams at once each 100 µs: a sleep for each datagram is more than this machine can do.
        tick_us = 100 if rate * len(ports) > 150e6 else 0
    options = ["--to", ports_argument(ports), "--rate", rate, "--seconds", seconds, "--tick-us", tick_us]
    options += ["--train", train] + (["--rtp"] if rtp else [])
    return machine.start([HARNESS / "sender", *options], realtime=realtime, stdout=subprocess.PIPE)


def relay(now, rate, window, warm_up=WARM_UP, tick_us=None, train=1, coalesce=False, realtime=True, meanwhile=None, called=()):
    """Lets a running contestant relay `rate` bit/s a flow for `window` seconds, and returns all figures.
    `meanwhile` is called in the window, after which CPU time is taken. `called`: ports of SRT that the sink calls."""
    machine, work = now.machine, now.work
    skip = int(rate / BITS * warm_up)
    ports = work.output_ports
    with Sink(machine, ports, skip, coalesce, called) as sink:
        sending = sender(machine, now.to_ports, rate, warm_up + window + 0.1, work.rtp, tick_us, train, realtime)
        time.sleep(warm_up)
        cpu, start = machine.cpu_ns(now.processes), time.monotonic()
        extra = meanwhile() if meanwhile else {}
        time.sleep(max(0, start + window - time.monotonic()))
        cpu, seconds = machine.cpu_ns(now.processes) - cpu, time.monotonic() - start
        resident, proportional, threads = memory_kib(now.processes)
        sent = machine.answer(sending, 10 * (warm_up + window) + 10)
    now.alive()
    got = sink.result
    real_rate = sent["per_stream"] * BITS / sent["seconds"]
    expected = max(0, sent["per_stream"] - skip) * len(ports)
    lost = expected - got["counted"]
    gbit_in = real_rate * len(work.flows) * seconds / 1e9
    outputs = len(ports) / len(work.flows)
    delivered = max(1e-9, got["counted"] / max(1, expected))
    return {
        "rate": rate,
        "real_rate": real_rate,
        "cpu_percent": cpu / seconds / 1e7,
        "cpu_ms_per_gbit_in": cpu / 1e6 / gbit_in,
        "cpu_ms_per_gbit_out": cpu / 1e6 / gbit_in / outputs / delivered,
        "expected": expected,
        "lost": lost,
        "lost_in_source_buffers": dropped(work.source_ports) if now.processes else 0,
        "lost_in_sink": got["dropped"],
        "late": sent["late"],
        "duplicates": got["duplicates"],
        "reordered": got["reordered"],
        "p50_us": got["p50_us"],
        "p99_us": got["p99_us"],
        "p999_us": got["p999_us"],
        "rss_kib": resident,
        "pss_kib": proportional,
        "threads": threads,
        "processes": len(now.processes),
        **extra,
    }


def flood(now, start_rate, train=1, coalesce=True, seconds=0.8):
    """Searches the highest rate of which at most 0.1 % is lost, to about 9 %: doubling, then three bisections."""
    tries = []

    def lossless(rate):
        # Machines have hiccups: what fails by little is tried once more.
        return attempt(rate) or (tries[-1]["close"] and attempt(rate))

    def attempt(rate):
        figures = relay(
            now, rate, seconds, 0.1, tick_us=250 if train > 1 else 100, train=train, coalesce=coalesce, realtime=False
        )
        own = max(0, figures["lost"] - figures["lost_in_sink"])
        allowed = figures["expected"] / 1000
        # Where sender or sink can't keep up, nothing is known of the contestant.
        fair = figures["real_rate"] >= 0.97 * rate and figures["lost_in_sink"] <= 10 * allowed
        close = own <= figures["expected"] / 20 and figures["real_rate"] >= 0.9 * rate
        tries.append({"rate": rate, "fair": fair, "close": close, "figures": figures})
        return fair and own <= allowed

    low, high, rate = 0, None, start_rate
    while 5e6 < rate < 40e9:
        if lossless(rate):
            low, rate = rate, rate * 2
        else:
            high, rate = rate, rate / 2
        if low and high:
            break
    for _ in range(3 if low and high else 0):
        middle = (low * high) ** 0.5
        if lossless(middle):
            low = middle
        else:
            high = middle
    best = next((t["figures"] for t in reversed(tries) if t["rate"] == low), None)
    failed = [t for t in tries if t["rate"] == high]
    limit = "contestant" if any(t["fair"] for t in failed) else "sender or sink"
    return {**(best or {}), "lossless_rate": low, "limit": limit if high else "not found"}
