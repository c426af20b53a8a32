//! Every key of the configuration contract in one table: what may be written, its range, its default, what it means.
//! The parser refuses by it, and the JSON Schema is made from it.

use std::time::Duration;

use super::plan::METRIC_NAMES;

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    /// As written.
    pub(super) name: &'static str,
    /// What may stand behind it.
    pub(super) form: Form,
    /// In TOML; empty: no default, or one that `doc` explains.
    pub(super) default: &'static str,
    /// For people.
    pub(super) doc: &'static str,
    /// The protocols (the words of the table's first key) for which it has a meaning; empty: all.
    pub(super) on: &'static [&'static str],
    /// Whether it must be written.
    pub(super) required: Required,
    /// The key that may be written in place of a required one; empty: none.
    pub(super) instead: &'static str,
}

/// Whether a key must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Required {
    /// It may be left out.
    No,
    /// In any case.
    Always,
    /// For these protocols.
    For(&'static [&'static str]),
}

/// The form of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Any text.
    Text,
    /// One of these protocols.
    Protocol(&'static [(&'static str, Standing)]),
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Whole(u64, u64),
    /// One of these whole numbers.
    OneOf(&'static [u64]),
    /// A list of two whole numbers within bounds.
    Pair(u64, u64),
    /// A duration within bounds.
    Duration(Duration, Duration),
    /// The same, or zero for "off".
    DurationOrOff(Duration, Duration),
    /// `"auto"` or a duration up to a bound.
    Gather(Duration),
    /// Bits a second.
    Bitrate,
    /// A moment, by RFC 3339.
    Time,
    /// `ADDRESS:PORT` of this machine or of a group.
    Bind,
    /// `HOST:PORT`.
    Destination,
    /// A code point, by number or name.
    Dscp,
    /// The name of an interface.
    Interface,
    /// A network, or one address.
    Network,
    /// An address.
    Address,
    /// CPUs, by number and range.
    Cpus,
    /// A file of `secrets`, or an absolute path.
    KeyFile,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of the form.
    List(&'static Form),
    /// A table of texts.
    Texts,
    /// A table of these keys.
    Table(&'static [Key]),
    /// A list of so many tables of these keys.
    Tables(usize, &'static [Key]),
    /// A table of named tables of these keys.
    Named(&'static [Key]),
    /// A threshold of an alarm: a rate, a time or a count, by its metric.
    Threshold,
    /// In the contract, but not in this version.
    Later,
}

impl Form {
    /// For `KEY must be …, not …`.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Text | Self::Later => "text in quotes".into(),
            Self::Protocol(_) => "text such as \"rtp\"".into(),
            Self::Flag => "true or false".into(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::OneOf(numbers) => either(numbers.iter().map(u64::to_string)),
            Self::Pair(least, most) => format!("a list of two whole numbers from {least} to {most}"),
            Self::Duration(..) | Self::DurationOrOff(..) => "a duration such as \"200ms\"".into(),
            Self::Gather(_) => "\"auto\" or a duration such as \"2ms\"".into(),
            Self::Bitrate => "a bit rate such as \"20M\" or 20000000".into(),
            Self::Time => "a time such as \"2026-12-31T23:59:00Z\"".into(),
            Self::Bind => "an address with a port such as \":5000\" or \"192.0.2.10:5000\"".into(),
            Self::Destination => "an address with a port such as \"203.0.113.7:5000\"".into(),
            Self::Dscp => "a number from 0 to 63 or a name such as \"af41\"".into(),
            Self::Interface => "the name of an interface such as \"eth1\"".into(),
            Self::Network => "a network such as \"203.0.113.0/24\" or one address".into(),
            Self::Address => "an address such as \"203.0.113.7\"".into(),
            Self::Cpus => "a list of CPUs such as \"2-3,6\"".into(),
            Self::KeyFile => "the name of a key file such as \"venue-a\"".into(),
            Self::Choice(words) => format!("one of {}", quoted(words)),
            Self::List(Self::Choice(words)) => format!("a list of {}", quoted(words)),
            Self::List(Self::Bind) => "a list such as [\"127.0.0.1:9740\"]".into(),
            Self::List(Self::KeyFile) => "a list such as [\"venue-a-new\", \"venue-a\"]".into(),
            Self::List(Self::Text) => "a list of texts such as [\"noc\"]".into(),
            Self::Threshold => "a whole number from 0".into(),
            Self::List(_) => "a list such as [\"203.0.113.7\"]".into(),
            Self::Texts => "a table of texts such as { Channel = \"news-1\" }".into(),
            Self::Tables(count, _) => format!("a list of {count} tables"),
            Self::Table(_) | Self::Named(_) => "a table".into(),
        }
    }
}

/// `"a", "b" or "c"`.
pub(super) fn quoted(words: &[&str]) -> String {
    either(words.iter().map(|word| format!("{word:?}")))
}

/// `a, b or c`.
pub(super) fn either(items: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = items.collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

/// What is known of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It works.
    Available,
    /// In the contract, but not in this version.
    Later,
    /// An AWS protocol that can't exist here: why, and what to use.
    Impossible(&'static str, &'static str),
}

/// The protocols of sources.
pub(super) const SOURCE_PROTOCOLS: &[(&str, Standing)] = &[
    ("udp", Standing::Available),
    ("rtp", Standing::Available),
    ("rtp-fec", Standing::Available),
    ("rist", Standing::Available),
    ("srt-listener", Standing::Available),
    ("srt-caller", Standing::Available),
    ("srt-rendezvous", Standing::Available),
    ("entitlement", Standing::Available),
];

/// The protocols of outputs.
pub(super) const OUTPUT_PROTOCOLS: &[(&str, Standing)] = &[
    ("udp", Standing::Available),
    ("rtp", Standing::Available),
    ("rtp-fec", Standing::Available),
    ("rist", Standing::Available),
    ("srt-caller", Standing::Available),
    ("srt-listener", Standing::Available),
    ("srt-rendezvous", Standing::Available),
    ("rtmp-push", Standing::Later),
];

const ZIXI: Standing = Standing::Impossible(
    "Zixi is a licensed protocol without a public specification",
    "use srt-listener, srt-caller or rist, which recover lost packets too",
);
const CDI: &str = "it needs the AWS Cloud Digital Interface, which exists only between EC2 instances";
const COMPRESSED: &str = "use an encoder that sends MPEG-TS by rtp, rtp-fec, rist or SRT";

/// Protocols of AWS Elemental MediaConnect that people try, for sources and outputs.
pub(super) const FOREIGN_PROTOCOLS: &[(&str, Standing)] = &[
    ("zixi-push", ZIXI),
    ("zixi-pull", ZIXI),
    ("cdi", Standing::Impossible(CDI, COMPRESSED)),
    ("ndi-speed-hq", Standing::Impossible("NDI is a licensed protocol and its video is not MPEG-TS", COMPRESSED)),
    (
        "fujitsu-qos",
        Standing::Impossible(
            "Fujitsu QoS is a vendor's protocol without a public specification",
            "use srt-listener, srt-caller or rist on both ends",
        ),
    ),
    (
        "st2110-jpegxs",
        Standing::Impossible("ST 2110-22 JPEG XS is not MPEG-TS and needs a PTP-locked network card", COMPRESSED),
    ),
];

/// What to write where `key` has no meaning for `protocol`, and another has.
pub(super) fn instead(key: &str, protocol: &str) -> Option<&'static str> {
    match (key, protocol) {
        ("reorder-window", "rist") => Some("write `latency`, the receiver's buffer"),
        ("passphrase-files", "rist") => Some("an output has one: write `passphrase-file`"),
        ("smoothing", "rist") => Some("remove it: receivers pace what they have in their buffers"),
        ("remote", "rist") => Some("nobody calls by RIST: a source has `bind` and `allow`, an output `destination`"),
        _ => None,
    }
}

impl Key {
    const fn new(name: &'static str, form: Form, doc: &'static str) -> Self {
        Self { name, form, default: "", doc, on: &[], required: Required::No, instead: "" }
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn on(mut self, protocols: &'static [&'static str]) -> Self {
        self.on = protocols;
        self
    }

    const fn required(mut self) -> Self {
        self.required = Required::Always;
        self
    }

    const fn required_for(mut self, protocols: &'static [&'static str]) -> Self {
        self.required = Required::For(protocols);
        self
    }

    const fn or(mut self, instead: &'static str) -> Self {
        self.instead = instead;
        self
    }
}

const DATAGRAM: &[&str] = &["udp", "rtp", "rtp-fec", "rist"];
const ARQ: &[&str] = &["rist", "srt-listener", "srt-caller", "srt-rendezvous", "entitlement"];
const RTP: &[&str] = &["rtp", "rtp-fec"];
/// Who names the other end.
const CALLING: &[&str] = &["srt-caller", "srt-rendezvous", "entitlement"];
/// Who tells a stream ID, or asks for one.
const SRT: &[&str] = &["srt-listener", "srt-caller", "srt-rendezvous", "entitlement"];
const ENTITLED: &[&str] = &["entitlement"];
const NAMED: &[&str] = &["srt-listener", "srt-caller"];
const MOST: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);

const DESCRIPTION: Key = Key::new("description", Form::Text, "Free text for people").default("\"\"");
const ENABLED: Key = Key::new("enabled", Form::Flag, "false: defined, but not running").default("true");
const GATHER: Key = Key::new(
    "gather",
    Form::Gather(MOST),
    "How long received packets may be gathered to save CPU: \"auto\", or up to 100ms; \"0s\": each is handled as it comes",
)
.default("\"auto\"");
const LATENCY: Key = Key::new(
    "latency",
    Form::Duration(Duration::from_millis(10), Duration::from_secs(30)),
    "SRT: this end's least, from 20ms, by default 120ms; the greater of both ends counts. RIST: the receiver's buffer, on an output the history kept, by default 1s",
)
.on(ARQ);
const PROFILE: Key = Key::new(
    "profile",
    Form::Choice(&["simple", "main"]),
    "\"simple\": media on an even port, RTCP on the next (TR-06-1); \"main\": both on one port, and a passphrase may encrypt them (TR-06-2)",
)
.on(&["rist"])
.default("\"simple\"");
const PASSPHRASE_FILE: Key = Key::new(
    "passphrase-file",
    Form::KeyFile,
    "The file in secrets/ that holds the passphrase, 10 to 79 bytes; without it nothing is encrypted; RIST: profile main",
)
.on(ARQ);
const PASSPHRASE_FILES: Key = Key::new(
    "passphrase-files",
    Form::List(&Form::KeyFile),
    "In place of `passphrase-file`: several, the newest first; each of them is accepted",
);
const KEY_LENGTH: Key = Key::new(
    "key-length",
    Form::OneOf(&[16, 24, 32]),
    "Bytes of the keys this end makes: AES-128, AES-192 (SRT only) or AES-256; only with a passphrase",
)
.on(ARQ)
.default("16");
const KM_REFRESH_RATE: Key = Key::new(
    "km-refresh-rate",
    Form::Whole(64, 1 << 25),
    "Packets that are sent with one stream key before the next is used; only with a passphrase",
)
.on(SRT)
.default("16777216");
const STREAM_ID: Key = Key::new(
    "stream-id",
    Form::Text,
    "Caller: what it tells the listener; listener: what callers must tell, with * and ?; without it all are meant",
)
.on(NAMED);
const NETWORK: Key = Key::new("network", Form::Text, "A [networks.*] of mediaconnect.toml; or `interface`, not both");
const INTERFACE: Key = Key::new("interface", Form::Interface, "The interface by name; or `network`, not both");

/// A file of `flows.d`.
pub(super) const FLOW: &[Key] = &[
    DESCRIPTION,
    ENABLED,
    GATHER,
    Key::new("tags", Form::Texts, "Free labels").default("{}"),
    Key::new("operators", Form::List(&Form::Text), "Groups that may act on this flow besides those of [control]")
        .default("[]"),
    Key::new("sources", Form::Named(SOURCE), "What arrives; two or more of them need [failover]").required(),
    Key::new("outputs", Form::Named(OUTPUT), "Where it goes"),
    Key::new("failover", Form::Table(FAILOVER), "What several sources are to each other"),
    Key::new("entitlements", Form::Named(ENTITLEMENT), "Who may receive it at the appliance's one port for that"),
    Key::new("monitoring", Form::Table(MONITORING), "What is looked at in what the sources carry"),
    Key::new(
        "alarms",
        Form::Named(ALARM),
        "What of this flow is watched; one of mediaconnect.toml of the same name gives way",
    ),
];

/// `[sources.NAME]`.
pub(super) const SOURCE: &[Key] = &[
    Key::new("protocol", Form::Protocol(SOURCE_PROTOCOLS), "What arrives").required(),
    Key::new(
        "bind",
        Form::Bind,
        "Where it is received; a multicast group is joined; \":PORT\": all addresses; srt-caller: the port it calls from",
    )
    .on(&["udp", "rtp", "rtp-fec", "rist", "srt-listener", "srt-caller", "srt-rendezvous", "entitlement"])
    .required_for(&["udp", "rtp", "rtp-fec", "rist", "srt-listener", "srt-rendezvous"]),
    Key::new("remote", Form::Destination, "Whom it calls, by address or DNS name").on(CALLING).required_for(CALLING),
    NETWORK,
    INTERFACE,
    Key::new("multicast-sources", Form::List(&Form::Address), "Source-specific multicast: the group's senders")
        .on(DATAGRAM)
        .default("[]"),
    Key::new(
        "allow",
        Form::List(&Form::Network),
        "Who may send, or call; required where `bind` is neither loopback nor multicast; [\"0.0.0.0/0\", \"::/0\"]: everybody",
    )
    .on(&["udp", "rtp", "rtp-fec", "rist", "srt-listener"]),
    Key::new("max-bitrate", Form::Bitrate, "What comes above it is dropped and counted"),
    Key::new(
        "reorder-window",
        Form::Duration(Duration::ZERO, Duration::from_secs(10)),
        "How long a packet waits for those before it",
    )
    .on(RTP)
    .default("\"50ms\""),
    Key::new(
        "fec-ports",
        Form::Pair(1, 65535),
        "What is added to the port of `bind` for the column FEC and for the row FEC",
    )
    .on(&["rtp-fec"])
    .default("[2, 4]"),
    LATENCY,
    PROFILE,
    PASSPHRASE_FILE.required_for(&["entitlement"]).or("passphrase-files"),
    PASSPHRASE_FILES.on(ARQ),
    KEY_LENGTH,
    KM_REFRESH_RATE,
    STREAM_ID,
    ENABLED,
    DESCRIPTION,
    Key::new("decryption", Form::Table(DECRYPTION), "What comes is decrypted, DVB-CISSA (ETSI TS 103 127)"),
    Key::new("subscriber", Form::Text, "As whom it calls: the stem of a file in subscribers.d of the other appliance")
        .on(ENTITLED)
        .required_for(ENTITLED),
    Key::new("entitlement", Form::Text, "What it calls for: \"FLOW/NAME\" of the other appliance")
        .on(ENTITLED)
        .required_for(ENTITLED),
];

/// `[entitlements.NAME]` of a flow.
pub(super) const ENTITLEMENT: &[Key] = &[
    Key::new("subscribers", Form::List(&Form::Text), "Who is entitled: stems of files in subscribers.d").required(),
    ENABLED,
    Key::new("max-sessions", Form::Whole(1, 1000), "Sessions at the same time, of all its subscribers together")
        .default("1"),
    Key::new("expires", Form::Time, "From then on nobody gets it; without it, it does not expire"),
    Key::new(
        "latency",
        Form::Duration(Duration::from_millis(20), Duration::from_secs(30)),
        "This end's least; the greater of both ends counts; a change is for sessions that begin after it",
    )
    .default("\"120ms\""),
    Key::new(
        "key-length",
        Form::OneOf(&[16, 24, 32]),
        "AES-128, AES-192 or AES-256 for callers that have no wish of their own; the greatest of all entitlements counts",
    )
    .default("16"),
    DESCRIPTION,
];

/// A file of `subscribers.d`.
pub(super) const SUBSCRIBER: &[Key] = &[
    PASSPHRASE_FILE.required().or("passphrase-files"),
    PASSPHRASE_FILES,
    Key::new("allow", Form::List(&Form::Network), "From where it may call; [\"0.0.0.0/0\", \"::/0\"]: from everywhere")
        .required(),
    Key::new(
        "max-sessions",
        Form::Whole(1, 1000),
        "Sessions at the same time, of all entitlements together; without it as many as these allow",
    ),
    Key::new(
        "max-bitrate",
        Form::Bitrate,
        "Of all its sessions together: one that would go above it is refused, and the newest ends where they do for 5 s",
    ),
    ENABLED,
    DESCRIPTION,
];

/// `[entitlements]` of `mediaconnect.toml`.
pub(super) const ENTITLEMENT_PORT: &[Key] = &[
    Key::new("bind", Form::Bind, "Where subscribers call; \":PORT\": all addresses").required(),
    Key::new("network", Form::Text, "A [networks.*] of this file: the interface it is bound to"),
];

/// `[monitoring]`.
pub(super) const MONITORING: &[Key] = &[
    Key::new(
        "transport-stream",
        Form::Flag,
        "Whether each source's transport stream is analysed: TR 101 290, first and second priority, and what it carries",
    )
    .default("true"),
    Key::new("thumbnails", Form::Table(THUMBNAILS), "A small picture of what is on air, now and then; needs ffmpeg"),
    Key::new("content", Form::Table(CONTENT), "What is looked for in the pictures and the sound of what is on air"),
];

/// `[monitoring] thumbnails`.
pub(super) const THUMBNAILS: &[Key] = &[Key::new(
    "every",
    Form::Duration(Duration::from_secs(1), HOUR),
    "A picture is taken so often, from the next key frame",
)
.default("\"5s\"")];

/// `[monitoring] content`.
pub(super) const CONTENT: &[Key] = &[
    Key::new("black", LOOKED_FOR, "The picture is black for so long; needs ffmpeg").default("\"0s\""),
    Key::new("frozen", LOOKED_FOR, "The picture does not move for so long; needs ffmpeg").default("\"0s\""),
    Key::new("silence", LOOKED_FOR, "There is no sound above -60 dBFS for so long; needs ffmpeg").default("\"0s\""),
];
/// How long a fault of the content lasts until it counts.
const LOOKED_FOR: Form = Form::DurationOrOff(Duration::from_secs(1), HOUR);

/// `[failover]`.
pub(super) const FAILOVER: &[Key] = &[
    Key::new(
        "mode",
        Form::Choice(&["merge", "failover"]),
        "\"merge\": all sources carry the same RTP packets (ST 2022-7); \"failover\": one source is on air; required with two or more sources",
    ),
    Key::new(
        "recovery-window",
        Form::Duration(Duration::from_millis(10), Duration::from_secs(15)),
        "How far the sources may be apart, and the delay that is added",
    )
    .on(&["merge"])
    .default("\"200ms\""),
    Key::new("primary", Form::Text, "The preferred source; without it the survivor stays on air").on(&["failover"]),
    Key::new(
        "return",
        Form::Choice(&["immediate", "hold", "manual"]),
        "When the primary takes over again: with its first data, after `hold`, or by the operator",
    )
    .on(&["failover"])
    .default("\"hold\""),
    Key::new(
        "hold",
        Form::Duration(Duration::ZERO, Duration::from_secs(3600)),
        "How long the primary must have been well, for return = \"hold\"",
    )
    .on(&["failover"])
    .default("\"5s\""),
    Key::new("switch-on", Form::Table(SWITCH_ON), "What takes a source off air").on(&["failover"]),
];

/// `[failover] switch-on`.
pub(super) const SWITCH_ON: &[Key] = &[
    Key::new(
        "silence",
        Form::DurationOrOff(Duration::from_millis(50), Duration::from_secs(10)),
        "No data for so long; \"0s\": not that",
    )
    .default("\"500ms\""),
    Key::new("min-bitrate", Form::Bitrate, "Less than this"),
    Key::new("continuity-errors", Form::Whole(1, 0xffff_ffff), "So many continuity errors a second"),
    Key::new(
        "pat-loss",
        Form::Duration(Duration::from_millis(100), Duration::from_secs(60)),
        "No program association table for so long",
    ),
    Key::new("unrecovered", Form::Whole(1, 0xffff_ffff), "So many packets gone for good a second"),
];

/// `[outputs.NAME]`.
pub(super) const OUTPUT: &[Key] = &[
    Key::new("protocol", Form::Protocol(OUTPUT_PROTOCOLS), "What is sent").required(),
    Key::new("destination", Form::Destination, "To whom, by address or DNS name; a multicast group is an address too")
        .on(&["udp", "rtp", "rtp-fec", "rist", "srt-caller", "rtmp-push"])
        .required_for(&["udp", "rtp", "rtp-fec", "rist", "srt-caller", "rtmp-push"])
        .or("legs"),
    Key::new("bind", Form::Bind, "Where receivers call, or the port it calls from; \":PORT\": all addresses")
        .on(&["srt-listener", "srt-rendezvous"])
        .required_for(&["srt-listener", "srt-rendezvous"]),
    Key::new("remote", Form::Destination, "Whom it calls, by address or DNS name")
        .on(&["srt-rendezvous"])
        .required_for(&["srt-rendezvous"]),
    Key::new(
        "allow",
        Form::List(&Form::Network),
        "Who may call; required where `bind` is not loopback; [\"0.0.0.0/0\", \"::/0\"]: everybody",
    )
    .on(&["srt-listener"]),
    Key::new("max-callers", Form::Whole(1, 1000), "How many receivers at the same time")
        .on(&["srt-listener"])
        .default("16"),
    Key::new(
        "legs",
        Form::Tables(2, LEG),
        "Two places that the same RTP packets go to (ST 2022-7), in place of `destination`",
    )
    .on(&["rtp", "rtp-fec", "rist"]),
    NETWORK,
    INTERFACE,
    Key::new("source-port", Form::Whole(1, 65535), "The local port; without it the system chooses").on(&[
        "udp",
        "rtp",
        "rtp-fec",
        "rist",
        "srt-caller",
    ]),
    Key::new("ttl", Form::Whole(1, 255), "Time to live, or hop limit; without it 16 for multicast, 64 for unicast"),
    Key::new("dscp", Form::Dscp, "Differentiated Services code point of every packet sent").default("0"),
    Key::new("datagram-packets", Form::Whole(1, 7), "TS packets a datagram; without it as received").on(&["udp"]),
    Key::new("payload-type", Form::Whole(0, 127), "RTP payload type; not with header = \"passthrough\"")
        .on(RTP)
        .default("33"),
    Key::new(
        "ssrc",
        Form::Whole(0, 0xffff_ffff),
        "RTP SSRC; without it a random one; not with header = \"passthrough\"",
    )
    .on(RTP),
    Key::new(
        "header",
        Form::Choice(&["regenerate", "passthrough"]),
        "\"passthrough\" keeps the headers of an RTP source, its sequence and timestamps included",
    )
    .on(RTP)
    .default("\"regenerate\""),
    Key::new("fec", Form::Table(FEC), "The matrix; column FEC goes to port + 2, row FEC to port + 4").on(&["rtp-fec"]),
    Key::new(
        "smoothing",
        Form::Duration(Duration::from_millis(1), Duration::from_secs(10)),
        "Packets leave evenly, so long after they came; without it as they come",
    )
    .on(&["udp", "rtp", "rtp-fec"]),
    LATENCY,
    PROFILE,
    PASSPHRASE_FILE,
    PASSPHRASE_FILES.on(SRT),
    KEY_LENGTH,
    KM_REFRESH_RATE,
    STREAM_ID,
    ENABLED,
    DESCRIPTION,
    Key::new("encryption", Form::Table(ENCRYPTION), "What is sent is encrypted, DVB-CISSA (ETSI TS 103 127)"),
];

const SCHEME: Key = Key::new("scheme", Form::Choice(&["cissa"]), "AES-128 by transport-stream packet").required();
const KEY_FILE: Key =
    Key::new("key-file", Form::KeyFile, "The file in secrets/ that holds the even key: 32 hex digits").required();
const ODD_KEY_FILE: Key = Key::new("odd-key-file", Form::KeyFile, "The same of the odd key");

/// `decryption` of a source.
pub(super) const DECRYPTION: &[Key] = &[SCHEME, KEY_FILE, ODD_KEY_FILE];

/// `encryption` of an output.
pub(super) const ENCRYPTION: &[Key] = &[
    SCHEME,
    KEY_FILE,
    ODD_KEY_FILE,
    Key::new(
        "key-period",
        Form::Duration(Duration::from_secs(1), Duration::from_secs(7 * 86_400)),
        "How long each of the two keys is used before the other is",
    ),
];

/// A table of `legs`.
pub(super) const LEG: &[Key] = &[
    Key::new("destination", Form::Destination, "To whom, as for an output of one leg").required(),
    NETWORK,
    INTERFACE,
];

/// `fec` of an output.
pub(super) const FEC: &[Key] = &[
    Key::new("columns", Form::Whole(1, 20), "L: packets in a row; at least 4 with the row stream").default("10"),
    Key::new("rows", Form::Whole(4, 20), "D: packets in a column; columns x rows is at most 100").default("10"),
    Key::new("row-stream", Form::Flag, "true: each row is protected too").default("true"),
];

/// `mediaconnect.toml`.
pub(super) const DAEMON: &[Key] = &[
    Key::new("log", Form::Table(LOG), "Where log lines go, and which"),
    Key::new("http", Form::Table(HTTP), "Metrics and status, read-only"),
    Key::new("control", Form::Table(CONTROL), "Who may use the control socket"),
    Key::new("networks", Form::Named(NETWORKS), "Names for interfaces, for `network` in flows"),
    Key::new("defaults", Form::Table(&[GATHER]), "For flows that don't set it"),
    Key::new("limits", Form::Table(LIMITS), "How much the appliance takes on"),
    Key::new("entitlements", Form::Table(ENTITLEMENT_PORT), "The one port of SRT for the entitlements of all flows"),
    Key::new("alarms", Form::Named(ALARM), "What of every flow is watched"),
    Key::new("notifiers", Form::Named(NOTIFIER), "Who is told of alarms"),
];

/// `[alarms.NAME]`.
pub(super) const ALARM: &[Key] = &[
    Key::new(
        "metric",
        Form::Choice(&METRIC_NAMES),
        "The figure that is watched, of each source, each output or the flow; counters count by the second. Required, except \
         for source-lost, output-lost, failover-switched, legs-not-identical, config-rejected, content-black, content-frozen, \
         content-silent, video-missing and audio-missing, which are built in",
    ),
    Key::new("below", Form::Threshold, "It is wrong below this; or `above`"),
    Key::new("above", Form::Threshold, "It is wrong above this; or `below`"),
    Key::new(
        "for",
        Form::Duration(Duration::ZERO, Duration::from_secs(86_400)),
        "The alarm is raised when it has been wrong for so long; those that are built in have times of their own",
    )
    .default("\"10s\""),
    Key::new(
        "clear-after",
        Form::Duration(Duration::ZERO, Duration::from_secs(86_400)),
        "The alarm is cleared when it has been right for so long; without it as long as `for`",
    ),
    Key::new("severity", Form::Choice(&["critical", "major", "minor", "info"]), "How bad it is").default("\"major\""),
    Key::new(
        "notify",
        Form::List(&Form::Text),
        "The [notifiers.*] of mediaconnect.toml that are told; without it all of them; []: none",
    ),
    Key::new("enabled", Form::Flag, "false: it is not watched").default("true"),
];

/// `[notifiers.NAME]`.
pub(super) const NOTIFIER: &[Key] = &[
    Key::new("webhook", Form::Text, "A URL that each alarm is posted to, as JSON; or `exec`, or `snmp-trap`"),
    Key::new(
        "exec",
        Form::List(&Form::Text),
        "A program by its absolute path, and its arguments: it is run for each alarm, without a shell",
    ),
    Key::new("snmp-trap", Form::Table(SNMP_TRAP), "An SNMPv2c trap for each alarm"),
    Key::new("events", Form::Flag, "true: tell every event, not only alarms").default("false"),
    Key::new(
        "timeout",
        Form::Duration(Duration::from_millis(100), Duration::from_secs(300)),
        "How long one attempt may take",
    )
    .default("\"10s\""),
    Key::new("enabled", Form::Flag, "false: nobody is told").default("true"),
];

/// `snmp-trap` of a notifier.
pub(super) const SNMP_TRAP: &[Key] = &[
    Key::new("target", Form::Destination, "Who receives the trap; usually port 162").required(),
    Key::new("community-file", Form::KeyFile, "The file in secrets/ that holds the community").required(),
    Key::new("enterprise", Form::Text, "Where MEDIACONNECT-MIB hangs, as an object identifier")
        .default("\"1.3.6.1.4.1.8072.9999.9999\""),
];

/// `[log]`.
pub(super) const LOG: &[Key] = &[
    Key::new(
        "level",
        Form::Text,
        "off, error, warn, info, debug or trace; or a filter \"info,mediaconnect::flow=debug\"",
    )
    .default("\"info\""),
    Key::new(
        "targets",
        Form::List(&Form::Choice(&["journal", "syslog", "stderr"])),
        "Without it the journal where systemd started the daemon, else stderr",
    ),
    Key::new("syslog", Form::Table(SYSLOG), "For the target \"syslog\""),
];

/// `[log.syslog]`.
pub(super) const SYSLOG: &[Key] = &[
    Key::new("server", Form::Text, "A path, \"udp://HOST:PORT\" or \"tcp://HOST:PORT\" (octet-counted, RFC 6587)")
        .default("\"/dev/log\""),
    Key::new(
        "format",
        Form::Choice(&["rfc3164", "rfc5424"]),
        "Without it rfc3164 (the local form) for a path, rfc5424 for a network server",
    ),
    Key::new("facility", Form::Choice(FACILITIES), "RFC 5424, table 1").default("\"daemon\""),
];

/// By their codes, 0 to 23 (RFC 5424, table 1; names as in syslog(3), `-` where it has none).
pub(super) const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// `[http]`.
pub(super) const HTTP: &[Key] = &[
    Key::new("listen", Form::List(&Form::Bind), "Addresses; []: off").default("[\"127.0.0.1:9740\"]"),
    Key::new("insecure", Form::Flag, "true: beyond loopback without token and TLS").default("false"),
    Key::new(
        "token-file",
        Form::KeyFile,
        "The file in secrets/ that holds the token which readers send; without it anybody reads",
    ),
    Key::new("tls", Form::Table(TLS), "HTTPS instead of HTTP"),
    Key::new("tag-labels", Form::List(&Form::Text), "Tags of flows that become labels of their metrics; at most 8")
        .default("[]"),
];

/// `tls` of `[http]`.
pub(super) const TLS: &[Key] = &[
    Key::new("certificate-file", Form::KeyFile, "The certificate and those that it builds on, in PEM").required(),
    Key::new("key-file", Form::KeyFile, "The certificate's private key, in PEM").required(),
];

/// `[control]`.
pub(super) const CONTROL: &[Key] = &[
    Key::new("operators", Form::Text, "The group that may act; root and the daemon's own user always may")
        .default("\"mediaconnect-operators\""),
    Key::new("readers", Form::Text, "\"everyone\", or the group that may read").default("\"everyone\""),
];

/// `[networks.NAME]`.
pub(super) const NETWORKS: &[Key] = &[
    Key::new("interface", Form::Interface, "The interface by name; or `cidr`"),
    Key::new("cidr", Form::Network, "The interface that holds an address in this network; or `interface`"),
];

/// `[limits]`.
pub(super) const LIMITS: &[Key] = &[
    Key::new("max-flows", Form::Whole(1, 100_000), "Most flow files").default("1000"),
    Key::new("max-outputs-per-flow", Form::Whole(1, 100_000), "Most outputs of one flow").default("500"),
    Key::new("workers", Form::Whole(0, 1024), "Data-plane threads; 0: one a core; needs a restart").default("0"),
    Key::new(
        "worker-cpus",
        Form::Cpus,
        "The CPUs of the data-plane threads, such as \"2-3,6\"; `workers` = 0 means one thread for each; needs a restart",
    ),
];
