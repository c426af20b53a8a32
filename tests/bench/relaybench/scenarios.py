"""What is measured. To add a scenario, put it into `ALL`."""

import dataclasses
import http.client
import os
import socket
import statistics
import time

from . import contestants, measure, rist, srt
from .machine import BenchError, memory_kib, udp_sockets

M = 1e6
FLOORS = ["floor-copy", "floor-mmsg", "floor-gso", "floor-gso+1ms", "floor-gso+5ms"]
OURS = ["mediaconnectd-0s", "mediaconnectd-auto", "mediaconnectd-1ms", "mediaconnectd-5ms"]
PEERS = ["socat", "multicat", "srt-live-transmit", "srt-live-transmit-rcvbuf", "gstreamer", "gstreamer-rtp", "ffmpeg"]


@dataclasses.dataclass
class Options:
    """What the command line says about measurements."""

    window: float | None = None
    """Seconds; None: as the scenario has it."""


class Scenario:
    """What all scenarios have. `run` returns figures, or None where the contestant can't do it."""

    title: str
    contestants: tuple
    """Their names."""

    def begin_round(self, machine, options):
        """Before the contestants of a round."""

    def run(self, machine, contestant, options):
        raise NotImplementedError


@dataclasses.dataclass
class Relay(Scenario):
    """A steady rate."""

    flows: int
    outputs: int
    rate: float
    rtp: bool = False
    contestants: tuple = ("no-relay", *FLOORS, *OURS, *PEERS)

    @property
    def title(self):
        protocol = "RTP" if self.rtp else "UDP"
        flows = "one flow" if self.flows == 1 else f"{self.flows} flows"
        outputs = "one output" if self.outputs == 1 else f"{self.outputs} outputs"
        return f"{protocol}, {flows} of {self.rate / M:.0f} Mbit/s, {outputs}" + (" each" if self.flows > 1 else "")

    def run(self, machine, contestant, options):
        work = measure.work(machine, self.flows, self.outputs, self.rtp)
        with measure.running(machine, contestant, work) as now:
            if self.flows == 1:
                return now and measure.relay(now, self.rate, options.window or 2.0)
            return now and measure.relay(now, self.rate, options.window or 1.5, tick_us=200)


@dataclasses.dataclass
class Flood(Scenario):
    """The highest rate without loss."""

    title: str
    outputs: int
    train: int = 1
    coalesce: bool = True

    @property
    def contestants(self):
        peers = ["multicat", "srt-live-transmit-rcvbuf"] if self.outputs == 1 else ["floor-mmsg", "ffmpeg"]
        peers = peers if self.coalesce else []
        return ("floor-gso", "mediaconnectd-0s", "mediaconnectd-auto", "gstreamer", *peers)

    def run(self, machine, contestant, options):
        work = measure.work(machine, 1, self.outputs)
        start = (800 if self.outputs == 1 else 200) * M
        with measure.running(machine, contestant, work) as now:
            return now and measure.flood(now, start, self.train, self.coalesce)


@dataclasses.dataclass
class FloodLossless(Scenario):
    """The floor's highest rate without loss, less 15 %, for 10 s."""

    outputs: int
    contestants: tuple = ("floor-gso", "mediaconnectd-0s", "mediaconnectd-auto", "mediaconnectd-1ms")
    rate: float | None = None

    @property
    def title(self):
        outputs = "one output" if self.outputs == 1 else f"{self.outputs} outputs"
        return f"UDP, one flow at 85 % of the floor's highest rate without loss, {outputs}, for 10 s"

    def begin_round(self, machine, options):
        floor = contestants.ALL["floor-gso"]
        with measure.running(machine, floor, measure.work(machine, 1, self.outputs)) as now:
            found = measure.flood(now, (1600 if self.outputs == 1 else 400) * M)
        if not found["lossless_rate"]:
            raise BenchError("the floor loses packets at every rate: this machine is too busy to measure on")
        self.rate = 0.85 * found["lossless_rate"]

    def run(self, machine, contestant, options):
        work = measure.work(machine, 1, self.outputs)
        with measure.running(machine, contestant, work) as now:
            window = options.window or 10.0
            return now and measure.relay(now, self.rate, window, 0.2, tick_us=100, coalesce=True, realtime=False)


@dataclasses.dataclass
class NoisyNeighbour(Scenario):
    """One flow is flooded, and the others share its thread."""

    quiet: int = 50
    rate: float = 5 * M
    noise: float = 300 * M
    title: str = "50 flows of 5 Mbit/s on one thread with a flow of 300 Mbit/s: figures of the 50"
    contestants: tuple = ("floor-copy", "floor-gso", *OURS, "multicat", "gstreamer")

    def run(self, machine, contestant, options):
        work = measure.work(machine, self.quiet + 1, 1, workers=1)
        noisy = work.flows[-1]
        window = options.window or 2.0
        with measure.running(machine, contestant, work) as now:
            if now is None:
                return None
            neighbours = contestants.Work(work.flows[:-1], work.folder)
            with measure.Sink(machine, noisy.outputs) as noise_sink:
                noise = measure.sender(machine, [noisy.source], self.noise, window + 1.5)
                time.sleep(0.3)
                quiet = measure.Running(machine, contestant, neighbours, now.processes, 0)
                figures = measure.relay(quiet, self.rate, window, tick_us=200)
                sent = machine.answer(noise)
            figures["noise_lost"] = sent["sent"] - noise_sink.result["counted"]
            figures["noise_rate"] = sent["sent"] * measure.BITS / sent["seconds"]
            figures["lost_in_sink"] += noise_sink.result["dropped"]
            return figures


@dataclasses.dataclass
class Idle(Scenario):
    """Many flows of which one carries something."""

    flows: int = 1000
    rate: float = 5 * M
    title: str = "1000 flows: all idle, then one carrying 5 Mbit/s"
    contestants: tuple = ("floor-copy", "floor-gso", "mediaconnectd-0s", "mediaconnectd-auto")

    def run(self, machine, contestant, options):
        work = measure.work(machine, self.flows, 1)
        window = options.window or 3.0
        with measure.running(machine, contestant, work) as now:
            if now is None:
                return None
            time.sleep(1.0)
            cpu, start = machine.cpu_ns(now.processes), time.monotonic()
            time.sleep(window)
            idle = (machine.cpu_ns(now.processes) - cpu) / (time.monotonic() - start) / 1e7
            resident, _, _ = memory_kib(now.processes)
            one = contestants.Work(work.flows[:1], work.folder)
            carrying = measure.Running(machine, contestant, one, now.processes, 0)
            figures = measure.relay(carrying, self.rate, window)
            figures |= {"idle_percent": idle, "rss_kib": resident, "seconds_to_bound": now.seconds_to_bound}
            if contestant.kind == "ours":
                asked = measure.relay(carrying, self.rate, 2.0, meanwhile=lambda: ask(work))
                figures |= {key: asked[key] for key in ("flows_ms", "metrics_ms")}
                figures |= {"asked_lost": asked["lost"], "asked_p99_us": asked["p99_us"]}
            return figures


def ask(work):
    """The longest of ten answers each, in ms."""
    return {
        key: max(timed(lambda route=route: get(work, route)) for _ in range(10)) * 1000
        for key, route in (("flows_ms", "/v1/flows"), ("metrics_ms", "/metrics"))
    }


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def get(work, route):
    """The answer to a question over the daemon's control socket."""
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(10)
    try:
        connection.sock.connect(str(contestants.control_socket(work)))
        connection.request("GET", route)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200 or not body:
        raise BenchError(f"{route} is answered with {answer.status} and {len(body)} bytes")
    return body


@dataclasses.dataclass
class Outputs(Scenario):
    """What an output packet costs with many outputs, against few."""

    counts: tuple = (1, 50, 500)
    rate: float = 5 * M
    title: str = "UDP, one flow of 5 Mbit/s (less where the floor loses packets) to 1, 50 and 500 outputs"
    contestants: tuple = (
        "floor-mmsg", "floor-gso", "floor-gso+5ms", "mediaconnectd-0s", "mediaconnectd-auto", "mediaconnectd-5ms",
        "gstreamer",
    )  # fmt: skip

    def begin_round(self, machine, options):
        """Finds a rate that this machine carries: in the first round, for all that follow."""
        while True:
            figures = self.relay(machine, contestants.ALL["floor-gso"], max(self.counts), 0.5)
            if figures["lost"] == 0:
                return
            self.rate /= 2
            if self.rate < M / 4:
                raise BenchError(f"the floor loses packets at every rate: {figures['lost']} of {figures['expected']}")

    def run(self, machine, contestant, options):
        costs = {}
        for count in self.counts:
            figures = self.relay(machine, contestant, count, options.window or 1.0)
            if figures is None:
                return None
            costs[f"us_per_packet_{count}"] = figures["cpu_ms_per_gbit_out"] * measure.BITS / 1e6
        return {**figures, **costs}

    def relay(self, machine, contestant, outputs, window):
        with measure.running(machine, contestant, measure.work(machine, 1, outputs)) as now:
            return now and measure.relay(now, self.rate, window, tick_us=0)


@dataclasses.dataclass
class Reload(Scenario):
    """One of many files is changed; some flows carry packets meanwhile."""

    flows: int = 1000
    carrying: int = 10
    changes: int = 5
    rate: float = 5 * M
    title: str = "1000 flows, 10 of them carrying 5 Mbit/s; one output of one flow is moved, five times"
    contestants: tuple = ("mediaconnectd-0s", "mediaconnectd-auto")

    def run(self, machine, contestant, options):
        if contestant.kind != "ours":
            return None
        work = measure.work(machine, self.flows, 2)
        with measure.running(machine, contestant, work) as now:
            carrying = work.flows[: self.carrying]
            changed = carrying[0]
            stays, moving = changed.outputs
            spare = measure.free_ports(self.changes)
            steady = [stays, *(port for flow in carrying[1:] for port in flow.outputs)]
            gather = contestant.name.removeprefix("mediaconnectd-")
            with measure.Sink(machine, steady) as sink, measure.Sink(machine, [moving, *spare]) as moved:
                seconds = 1.0 + 0.8 * self.changes
                sending = measure.sender(machine, [f.source for f in carrying], self.rate, seconds, tick_us=200)
                written = []
                time.sleep(0.7)
                for port in spare:
                    written.append(self.write(work, contestants.Flow(changed.source, [stays, port]), gather))
                    time.sleep(0.8)
                sent = machine.answer(sending)
            now.alive()
            arrived = [port["first_ns"] for port in moved.result["ports"][1:]]
            if not all(arrived):
                raise BenchError("a change was not applied within 0.8 s")
            delays = [(at - since) / 1e6 for at, since in zip(arrived, written)]
            return {
                "applied_ms": statistics.median(delays),
                "applied_longest_ms": max(delays),
                "lost": sent["per_stream"] * len(steady) - sink.result["counted"],
                "lost_in_sink": sink.result["dropped"],
            }

    @staticmethod
    def write(work, flow, gather):
        """Replaces a flow file as editors do; when, in ns since 1970."""
        path = contestants.flow_path(work, 0)
        new = path.with_suffix(".toml~")
        new.write_text(contestants.flow_file(flow, gather, False))
        os.replace(new, path)
        return time.time_ns()


@dataclasses.dataclass
class Redundant(Scenario):
    """Redundant sources against the same packets without redundancy. A second daemon makes legs or FEC of one stream."""

    title: str
    sources: int
    rate: float
    plain: str
    protected: str

    @property
    def contestants(self):
        return (self.plain, self.protected)

    def run(self, machine, contestant, options):
        work, feed = (measure.work(machine, self.sources, 1, rtp=True) for _ in range(2))
        entry = feed.flows[0].source
        feed.flows = work.flows
        with measure.running(machine, contestant, work) as now:
            feeder = machine.start(contestants.redundant_feed(feed, entry))
            try:
                machine.wait_bound([entry], [feeder])
                through = contestants.Work([contestants.Flow(entry, work.flows[0].outputs)], work.folder, rtp=True)
                relayed = measure.Running(machine, contestant, through, now.processes, 0)
                return measure.relay(relayed, self.rate, options.window or 2.0)
            finally:
                machine.stop([feeder])


@dataclasses.dataclass
class SrtIn(Scenario):
    """SRT to UDP. `srt-live-transmit`, on the sender's CPU, makes SRT of what the sender sends."""

    rate: float
    passphrase: str | None = None
    contestants: tuple = srt.NAMES

    @property
    def title(self):
        return f"SRT{' with AES-128' if self.passphrase else ''} of {self.rate / M:.0f} Mbit/s in, UDP out"

    def run(self, machine, contestant, options):
        if contestant.name not in self.contestants:
            return None
        work = measure.work(machine, 1, 1)
        work.passphrase = self.passphrase
        with measure.running(machine, contestant, work) as now:
            if now is None:
                return None
            [entry] = measure.free_ports(1)
            said = work.folder / "feeder"
            command = srt.feeder(entry, work.flows[0].source, self.passphrase)
            with said.open("w") as file:
                feeder = machine.start(command, stdout=file, stderr=file)
            try:
                machine.wait_until(lambda: srt.FEEDER_CONNECTED in said.read_text(), "no SRT connection", [feeder])
                through = contestants.Work([contestants.Flow(entry, work.flows[0].outputs)], work.folder)
                relayed = measure.Running(machine, contestant, through, now.processes, 0)
                figures = measure.relay(relayed, self.rate, options.window or 2.0)
            finally:
                machine.stop([feeder])
            return figures


@dataclasses.dataclass
class SrtOut(Scenario):
    """UDP to SRT receivers that call: the sink itself, which holds nothing back, so that latency is the contestant's."""

    receivers: int
    rate: float
    contestants: tuple = srt.NAMES

    @property
    def title(self):
        receivers = "one SRT receiver" if self.receivers == 1 else f"{self.receivers} SRT receivers"
        return f"UDP of {self.rate / M:.0f} Mbit/s in, to {receivers}"

    def run(self, machine, contestant, options):
        if contestant.name not in self.contestants:
            return None
        flows = self.receivers if contestant.one_each else 1
        work = measure.work(machine, flows, 1)
        work.receivers = self.receivers // flows
        with measure.running(machine, contestant, work) as now:
            if now is None:
                return None
            called = work.output_ports
            machine.wait_until(lambda: opened(work.source_ports, called), "no SRT listener", now.processes)
            ports = measure.free_ports(self.receivers)
            each = [
                contestants.Flow(flow.source, ports[n * work.receivers : (n + 1) * work.receivers])
                for n, flow in enumerate(work.flows)
            ]
            relayed = measure.Running(machine, contestant, contestants.Work(each, work.folder), now.processes, 0)
            return measure.relay(relayed, self.rate, options.window or 2.0, coalesce=True, called=called)


class Rist(Scenario):
    """RIST on one side of the contestant, and on the sender's CPU somebody of rist-tools who speaks it."""

    def relay(self, machine, now, helper, entry, exit, options):
        other = machine.start(helper)
        try:
            with measure.Primer(entry, exit) as primer:
                machine.wait_until(primer.has_come, "nothing comes through by RIST", [*now.processes, other])
            through = contestants.Work([contestants.Flow(entry, [exit])], now.work.folder)
            relayed = measure.Running(machine, now.contestant, through, now.processes, 0)
            # Until the buffer is full, nothing is passed on.
            warm_up = measure.WARM_UP + rist.LATENCY_MS / 1000
            return measure.relay(relayed, self.rate, options.window or 2.0, warm_up)
        finally:
            machine.stop([other])


@dataclasses.dataclass
class RistIn(Rist):
    """RIST to UDP."""

    rate: float
    contestants: tuple = rist.RECEIVERS

    @property
    def title(self):
        return f"RIST of {self.rate / M:.0f} Mbit/s in, UDP out"

    def run(self, machine, contestant, options):
        if contestant.name not in self.contestants:
            return None
        work = measure.work(machine, 1, 3)
        [flow] = work.flows
        # The source's next port is that of RTCP.
        _, entry, exit = flow.outputs
        flow.outputs = [exit]
        with measure.running(machine, contestant, work) as now:
            return self.relay(machine, now, rist.sender(entry, flow.source), entry, exit, options)


@dataclasses.dataclass
class RistOut(Rist):
    """UDP to RIST."""

    rate: float
    contestants: tuple = rist.SENDERS

    @property
    def title(self):
        return f"UDP of {self.rate / M:.0f} Mbit/s in, RIST out"

    def run(self, machine, contestant, options):
        if contestant.name not in self.contestants:
            return None
        work = measure.work(machine, 1, 4)
        [flow] = work.flows
        # Ports of RIST are even, and the next one is that of RTCP.
        exit, port, *_ = flow.outputs
        flow.outputs = [port]
        with measure.running(machine, contestant, work) as now:
            return self.relay(machine, now, rist.receiver(port, exit), flow.source, exit, options)


def opened(sources, wanted):
    """Whether these ports are open. ffmpeg opens them when something, which nobody counts, has come to its source."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as primer:
        for port in sources:
            primer.sendto(b"\x47\x1f\xff\x10".ljust(188, b"\xff") * 7, ("127.0.0.1", port))
    return set(wanted) <= udp_sockets().keys()


ALL = {
    "udp-1-to-1-20M": Relay(1, 1, 20 * M),
    "udp-1-to-1-200M": Relay(1, 1, 200 * M),
    # What one stream costs at least where packets gather, for SRT and RIST at this rate.
    "udp-1-to-1-50M": Relay(1, 1, 50 * M),
    "udp-1-to-10-50M": Relay(1, 10, 50 * M),
    "udp-1-to-50-20M": Relay(1, 50, 20 * M),
    "udp-100-flows-5M": Relay(
        100, 1, 5 * M,
        contestants=(
            "floor-copy", *FLOORS[2:], *OURS, "multicat", "srt-live-transmit", "gstreamer", "ffmpeg",
        ),
    ),
    "rtp-1-to-1-20M": Relay(1, 1, 20 * M, rtp=True),
    "rtp-1-to-10-50M": Relay(1, 10, 50 * M, rtp=True),
    "flood-1-to-1": Flood("UDP, highest rate without loss, one output", 1),
    "flood-1-to-10": Flood("UDP, highest rate without loss, 10 outputs", 10),
    "flood-trains-1-to-1": Flood("UDP that arrives in trains, highest rate without loss, one output", 1, train=40),
    "flood-trains-1-to-10": Flood("UDP that arrives in trains, highest rate without loss, 10 outputs", 10, train=40),
    "flood-no-offload-1-to-10": Flood(
        "UDP that arrives in trains and leaves without segmentation offload, highest rate without loss, 10 outputs",
        10, train=40, coalesce=False,
    ),
    "flood-lossless-1-to-1": FloodLossless(1),
    "flood-lossless-1-to-10": FloodLossless(10),
    "noisy-neighbour": NoisyNeighbour(),
    "analysis-1G": Relay(5, 1, 200 * M, contestants=("mediaconnectd-not-analysed", "mediaconnectd-analysed")),
    "idle-1000": Idle(),
    "outputs-500": Outputs(),
    "reload": Reload(),
    "merge-2-legs-100M": Redundant(
        "two sources of the same 100 Mbit/s: on standby, and merged", 2, 100 * M,
        "mediaconnectd-standby", "mediaconnectd-merge",
    ),
    "fec-10x10-100M": Redundant(
        "RTP of 100 Mbit/s with FEC 10 x 10: passed on plainly, and with its FEC received", 1, 100 * M,
        "mediaconnectd-rtp", "mediaconnectd-rtp-fec",
    ),
    "srt-in-50M": SrtIn(50 * M),
    "srt-in-aes-50M": SrtIn(50 * M, "correct horse battery"),
    "srt-out-1-20M": SrtOut(1, 20 * M),
    "srt-out-10-20M": SrtOut(10, 20 * M),
    "srt-out-100-2M": SrtOut(100, 2 * M),
    # 2 Gbit/s: no peer can do that on one CPU.
    "srt-out-100-20M": SrtOut(100, 20 * M, ("mediaconnectd-srt",)),
    "srt-out-200-5M": SrtOut(200, 5 * M, ("mediaconnectd-srt",)),
    "rist-in-50M": RistIn(50 * M),
    "rist-out-50M": RistOut(50 * M),
}  # fmt: skip
