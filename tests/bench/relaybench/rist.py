"""RIST, simple profile: its contestants, and what stands at the other end. A receiver among them has RIST at its source
port, and RTCP at the next one, and UDP at its output; a sender has it the other way round."""

from .contestants import contestant, daemon, peer

LATENCY_MS = 200
RECEIVERS = ("mediaconnectd-rist-in", "ristreceiver")
SENDERS = ("mediaconnectd-rist-out", "ristsender")


def tool(program, source, destination):
    return [program, "-p", "0", "-v", "4", "-S", "0", "-i", source, "-o", destination]


def receiver(port, destination):
    """The command that receives on a port by RIST, and sends it on by UDP."""
    return tool("ristreceiver", f"rist://@127.0.0.1:{port}?buffer={LATENCY_MS}", f"udp://127.0.0.1:{destination}")


def sender(port, destination):
    """The command that sends by RIST what comes to a UDP port."""
    return tool("ristsender", f"udp://@127.0.0.1:{port}", f"rist://127.0.0.1:{destination}?buffer={LATENCY_MS}")


def end(section, protocol, address, port):
    keys = f'profile = "simple"\nlatency = "{LATENCY_MS}ms"\n' if protocol == "rist" else ""
    return f'[{section}]\nprotocol = "{protocol}"\n{address} = "127.0.0.1:{port}"\n{keys}'


def mediaconnectd(source, output):
    def commands(work):
        texts = [
            end("sources.in", source, "bind", f.source) + end("outputs.out", output, "destination", f.outputs[0])
            for f in work.flows
        ]
        return [daemon(work, texts)]

    return commands


contestant("mediaconnectd-rist-in", "ours", budget="auto")(mediaconnectd("rist", "udp"))
contestant("mediaconnectd-rist-out", "ours", budget="auto")(mediaconnectd("udp", "rist"))


@peer("ristreceiver", "ristreceiver", "rist-tools")
def ristreceiver(work):
    return [receiver(f.source, f.outputs[0]) for f in work.flows]


@peer("ristsender", "ristsender", "rist-tools")
def ristsender(work):
    return [sender(f.source, f.outputs[0]) for f in work.flows]
