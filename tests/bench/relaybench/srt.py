"""SRT: its contestants, and what sends to them. A contestant in these scenarios listens: as a source, its flow's source
port is one of SRT and its outputs are UDP; as an output, the other way round, with as many receivers as `work.receivers`
says on each."""

from .contestants import DATAGRAM, RECEIVE_BUFFER, contestant, daemon, peer

LATENCY_MS = 120
KEY_LENGTH = 16
NAMES = ("mediaconnectd-srt", "srt-live-transmit-srt", "gstreamer-srt", "ffmpeg-srt")


def uri(port, mode, passphrase=None, latency=LATENCY_MS):
    key = f"&passphrase={passphrase}&pbkeylen={KEY_LENGTH}" if passphrase else ""
    return f"srt://127.0.0.1:{port}?mode={mode}&latency={latency}{key}"


def live_transmit(source, destination, *options):
    return ["srt-live-transmit", *options, f"-chunk:{DATAGRAM}", source, destination]


def udp(port):
    return f"udp://127.0.0.1:{port}"


def udp_in(port):
    return f"{udp(port)}?rcvbuf={RECEIVE_BUFFER}"


def feeder(port, called, passphrase):
    """The command that sends by SRT what comes to a UDP port. It says so when it is connected."""
    return live_transmit(udp_in(port), uri(called, "caller", passphrase), "-v", "-a:no")


FEEDER_CONNECTED = "SRT target connected"


@contestant("mediaconnectd-srt", "ours", budget="auto")
def mediaconnectd(work):
    key = f'passphrase-file = "key"\nkey-length = {KEY_LENGTH}\n' if work.passphrase else ""

    def end(section, protocol, address, port):
        return f'[{section}]\nprotocol = "{protocol}"\n{address} = "127.0.0.1:{port}"\n'

    def flow(flow):
        srt = f'latency = "{LATENCY_MS}ms"\n{key}'
        if work.receivers:
            text = end("sources.in", "udp", "bind", flow.source)
            srt += f"max-callers = {work.receivers}\n"
            return text + "".join(end(f"outputs.o{n}", "srt-listener", "bind", p) + srt for n, p in enumerate(flow.outputs))
        text = end("sources.in", "srt-listener", "bind", flow.source) + srt
        return text + "".join(end(f"outputs.o{n}", "udp", "destination", p) for n, p in enumerate(flow.outputs))

    command = daemon(work, [flow(f) for f in work.flows])
    if work.passphrase:
        secret = work.folder / "etc/secrets/key"
        secret.parent.mkdir()
        secret.touch(0o640)
        secret.write_text(work.passphrase)
    return [command]


@peer("srt-live-transmit-srt", "srt-live-transmit", "srt-tools", one_each=True)
def srt_live_transmit(work):
    if not work.one_to_one:
        return None
    if work.receivers:
        return [live_transmit(udp_in(f.source), uri(f.outputs[0], "listener", work.passphrase), "-q") for f in work.flows]
    return [live_transmit(uri(f.source, "listener", work.passphrase), udp(f.outputs[0]), "-q") for f in work.flows]


@peer("gstreamer-srt", "gst-launch-1.0", "gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad")
def gstreamer(work):
    pipeline = ["gst-launch-1.0", "-q"]
    for flow in work.flows:
        if work.receivers:
            pipeline += ["udpsrc", "address=127.0.0.1", f"port={flow.source}", f"buffer-size={RECEIVE_BUFFER}", "!"]
            pipeline += ["srtsink", f"uri={uri(flow.outputs[0], 'listener', work.passphrase)}"]
            pipeline += ["wait-for-connection=false", "sync=false", "async=false"]
        else:
            clients = ",".join(f"127.0.0.1:{port}" for port in flow.outputs)
            pipeline += ["srtsrc", f"uri={uri(flow.source, 'listener', work.passphrase)}", "!"]
            pipeline += ["multiudpsink", f"clients={clients}", "sync=false", "async=false"]
    return [pipeline]


@peer("ffmpeg-srt", "ffmpeg", "ffmpeg")
def ffmpeg(work):
    """As a byte pipe. It serves one receiver on each output."""
    if work.receivers > 1 or not work.one_to_one:
        return None
    commands = []
    for flow in work.flows:
        # ffmpeg counts in microseconds.
        source, destination = udp(flow.source), f"{udp(flow.outputs[0])}?pkt_size={DATAGRAM}"
        if work.receivers:
            source += f"?fifo_size=200000&overrun_nonfatal=1&buffer_size={RECEIVE_BUFFER}"
            destination = uri(flow.outputs[0], "listener", work.passphrase, LATENCY_MS * 1000)
        else:
            source = uri(flow.source, "listener", work.passphrase, LATENCY_MS * 1000)
        command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
        command += ["-f", "data", "-raw_packet_size", DATAGRAM, "-i", source]
        commands.append([*command, "-map", "0", "-c", "copy", "-f", "data", "-flush_packets", "1", destination])
    return commands
