"""The programs that are compared. To add one, write a function under `@contestant`: it gets the work and returns the
commands to run, or None where it can't do that work."""

import dataclasses
import pathlib
import shutil

from .machine import DAEMON, HARNESS

DATAGRAM = 1316
RTP_DATAGRAM = DATAGRAM + 12
RECEIVE_BUFFER = 4_000_000


@dataclasses.dataclass
class Flow:
    """From a port of loopback to some others."""

    source: int
    outputs: list[int]


@dataclasses.dataclass
class Work:
    """What a contestant has to do."""

    flows: list[Flow]
    folder: pathlib.Path
    """Empty; for its files."""
    rtp: bool = False
    """RTP in and out; else transport stream straight in UDP."""
    workers: int | None = None
    """Threads for packets, where a contestant can be told; None: as it likes."""
    passphrase: str | None = None
    """Of SRT, with AES-128; None: in the clear."""
    receivers: int = 0
    """Of SRT, that call each output."""

    @property
    def source_ports(self):
        return [flow.source for flow in self.flows]

    @property
    def output_ports(self):
        return [port for flow in self.flows for port in flow.outputs]

    @property
    def datagram(self):
        return RTP_DATAGRAM if self.rtp else DATAGRAM

    @property
    def one_to_one(self):
        return all(len(flow.outputs) == 1 for flow in self.flows)


@dataclasses.dataclass
class Contestant:
    name: str
    kind: str
    """floor, ours, peer, or none: no relay at all"""
    commands: object
    """Work -> list of commands or None"""
    budget: str = "0"
    """How long it may gather packets: only the like are compared."""
    program: str = ""
    package: str = ""
    one_each: bool = False
    """Of receivers that call, it serves one: there is one of it for each."""

    @property
    def installed(self):
        return not self.program or shutil.which(self.program) is not None


ALL = {}


def contestant(name, kind, **facts):
    def register(commands):
        ALL[name] = Contestant(name, kind, commands, **facts)
        return commands

    return register


def peer(name, program, package, **facts):
    return contestant(name, "peer", program=program, package=package, **facts)


def missing():
    """Debian packages of the peers that are not installed."""
    return sorted({c.package for c in ALL.values() if not c.installed})


# -- what nobody can beat


@contestant("no-relay", "none")
def no_relay(work):
    """The sender writes straight to the sink: what the harness and loopback add themselves."""
    return [] if work.one_to_one else None


def floor(mode, hold_us=0):
    def commands(work):
        if len(work.flows) > 1 and not work.one_to_one:
            return None
        ports = [",".join(map(str, ports)) for ports in (work.source_ports, work.output_ports)]
        return [[HARNESS / "floor", "--mode", mode, "--from", ports[0], "--to", ports[1], "--hold-us", hold_us]]

    return commands


contestant("floor-copy", "floor")(floor("copy"))
contestant("floor-mmsg", "floor")(floor("mmsg"))
contestant("floor-gso", "floor")(floor("gso"))
contestant("floor-gso+1ms", "floor", budget="1ms")(floor("gso", 1000))
contestant("floor-gso+5ms", "floor", budget="5ms")(floor("gso", 5000))


# -- ours


def flow_file(flow, gather, rtp):
    """The text of a flow file of mediaconnectd."""
    protocol = "rtp" if rtp else "udp"
    outputs = "".join(
        f'[outputs.o{n}]\nprotocol = "{protocol}"\ndestination = "127.0.0.1:{port}"\n'
        for n, port in enumerate(flow.outputs)
    )
    source = f'[sources.in]\nprotocol = "{protocol}"\nbind = "127.0.0.1:{flow.source}"\n'
    return f'gather = "{gather}"\n{source}{outputs}'


def control_socket(work):
    return work.folder / "run/control.sock"


def flow_path(work, number):
    return work.folder / f"etc/flows.d/f{number:04}.toml"


def daemon_options(work):
    places = {"--config": "etc", "--runtime": "run", "--state": "state", "--log-dir": "log"}
    return [str(part) for option, place in places.items() for part in (option, work.folder / place)]


def daemon(work, flow_files):
    """The command of a daemon with these flows."""
    for place in ("etc/flows.d", "run", "state", "log"):
        (work.folder / place).mkdir(parents=True, exist_ok=True)
    limits = f"[limits]\nworkers = {work.workers}\n" if work.workers else ""
    (work.folder / "etc/mediaconnect.toml").write_text(f"[http]\nlisten = []\n{limits}")
    for number, text in enumerate(flow_files):
        flow_path(work, number).write_text(text)
    return [DAEMON, *daemon_options(work), "--foreground"]


def mediaconnectd(gather, more=""):
    return lambda work: [daemon(work, [flow_file(flow, gather, work.rtp) + more for flow in work.flows])]


for _gather, _budget in (("0s", "0"), ("1ms", "1ms"), ("5ms", "5ms"), ("auto", "0")):
    contestant(f"mediaconnectd-{_gather}", "ours", budget=_budget)(mediaconnectd(_gather))


# What the analysis of transport streams costs.
for _analysed, _flag in (("analysed", "true"), ("not-analysed", "false")):
    _monitoring = f"[monitoring]\ntransport-stream = {_flag}\n"
    contestant(f"mediaconnectd-{_analysed}", "ours", budget="1ms")(mediaconnectd("1ms", _monitoring))


# One flow whose sources carry the same packets: the first flow's output is its own. What redundancy costs is told by
# comparing with the same packets received without it.
def redundant(name, protocol, failover=""):
    def commands(work):
        sources = "".join(
            f'[sources.s{n}]\nprotocol = "{protocol}"\nbind = "127.0.0.1:{port}"\n'
            for n, port in enumerate(work.source_ports)
        )
        output = f'[outputs.out]\nprotocol = "rtp"\ndestination = "127.0.0.1:{work.output_ports[0]}"\n'
        return [daemon(work, [f'gather = "5ms"\n{sources}{failover}{output}'])]

    contestant(name, "ours", budget="5ms")(commands)


redundant("mediaconnectd-rtp", "rtp")
redundant("mediaconnectd-rtp-fec", "rtp-fec")
redundant("mediaconnectd-standby", "rtp", '[failover]\nmode = "failover"\n')
redundant("mediaconnectd-merge", "rtp", '[failover]\nmode = "merge"\n')


def redundant_feed(work, source):
    """The daemon that feeds them from a port: the same RTP packets to each source; to one alone, with FEC."""
    protocol = "rtp-fec" if len(work.flows) == 1 else "rtp"
    outputs = "".join(
        f'[outputs.o{n}]\nprotocol = "{protocol}"\ndestination = "127.0.0.1:{port}"\nheader = "passthrough"\n'
        for n, port in enumerate(work.source_ports)
    )
    feed = f'gather = "1ms"\n[sources.in]\nprotocol = "rtp"\nbind = "127.0.0.1:{source}"\n{outputs}'
    return daemon(work, [feed])


# -- peers, as Debian ships them


@peer("socat", "socat", "socat")
def socat(work):
    if not work.one_to_one:
        return None
    return [
        ["socat", "-u", f"UDP4-RECV:{f.source},bind=127.0.0.1,rcvbuf={RECEIVE_BUFFER}",
         f"UDP4-SENDTO:127.0.0.1:{f.outputs[0]}"]
        for f in work.flows
    ]  # fmt: skip


@peer("multicat", "multicat", "multicat")
def multicat(work):
    if not work.one_to_one:
        return None
    # Without -u and -U it reads and writes RTP.
    plain = [] if work.rtp else ["-u", "-U"]
    return [["multicat", *plain, f"@127.0.0.1:{f.source}", f"127.0.0.1:{f.outputs[0]}"] for f in work.flows]


def srt_live_transmit(options):
    def commands(work):
        if not work.one_to_one:
            return None
        return [
            ["srt-live-transmit", "-q", f"-chunk:{work.datagram}", "-a:yes", f"udp://127.0.0.1:{f.source}{options}",
             f"udp://127.0.0.1:{f.outputs[0]}"]
            for f in work.flows
        ]  # fmt: skip

    return commands


peer("srt-live-transmit", "srt-live-transmit", "srt-tools")(srt_live_transmit(""))
# Its receive buffer is the system's default, 208 KiB, unless it is told.
peer("srt-live-transmit-rcvbuf", "srt-live-transmit", "srt-tools")(srt_live_transmit(f"?rcvbuf={RECEIVE_BUFFER}"))


@peer("gstreamer", "gst-launch-1.0", "gstreamer1.0-tools gstreamer1.0-plugins-good")
def gstreamer(work):
    """One process for all flows. RTP it passes on as it is, without a look."""
    pipeline = ["gst-launch-1.0", "-q"]
    for flow in work.flows:
        clients = ",".join(f"127.0.0.1:{port}" for port in flow.outputs)
        pipeline += ["udpsrc", "address=127.0.0.1", f"port={flow.source}", f"buffer-size={RECEIVE_BUFFER}"]
        pipeline += ["!", "multiudpsink", f"clients={clients}", "sync=false", "async=false"]
    return [pipeline]


@peer("gstreamer-rtp", "gst-launch-1.0", "gstreamer1.0-tools gstreamer1.0-plugins-good")
def gstreamer_rtp(work):
    """RTP taken off and put on anew, as mediaconnectd does."""
    if not work.rtp:
        return None
    caps = "application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T"
    pipeline = ["gst-launch-1.0", "-q"]
    for flow in work.flows:
        clients = ",".join(f"127.0.0.1:{port}" for port in flow.outputs)
        pipeline += ["udpsrc", "address=127.0.0.1", f"port={flow.source}", f"buffer-size={RECEIVE_BUFFER}"]
        pipeline += [f"caps={caps}", "!", "rtpmp2tdepay", "!", "rtpmp2tpay", "mtu=1400"]
        pipeline += ["!", "multiudpsink", f"clients={clients}", "sync=false", "async=false"]
    return [pipeline]


@peer("ffmpeg", "ffmpeg", "ffmpeg")
def ffmpeg(work):
    """As a byte pipe: no demultiplexing. A process a flow; with several inputs in one it serves only the first."""
    commands = []
    for flow in work.flows:
        source = f"udp://127.0.0.1:{flow.source}?fifo_size=200000&overrun_nonfatal=1&buffer_size={RECEIVE_BUFFER}"
        command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
        command += ["-f", "data", "-raw_packet_size", work.datagram, "-i", source]
        for port in flow.outputs:
            command += ["-map", "0", "-c", "copy", "-f", "data", "-flush_packets", "1"]
            command += [f"udp://127.0.0.1:{port}?pkt_size={work.datagram}"]
        commands.append(command)
    return commands
