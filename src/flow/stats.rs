//! The figures of a flow: written by its task alone, read by anybody as a snapshot.

use crate::time::Instant;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::io::batch::SendError;

use super::analysis::AnalysisStats;
use super::cipher::DecryptionStats;
use super::delay::Delays;
use super::failover::Reason;

/// A figure with one writer: no read-modify-write cycle, so it costs what an ordinary variable costs.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Count `n` more. Only the flow's own task may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Replace the value. Only the flow's own task may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A moment on the monotonic clock, or never.
#[derive(Debug, Default)]
pub struct Moment(Figure);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Moment {
    /// Remember `now`.
    pub fn set(&self, now: Instant) {
        let since = now.saturating_duration_since(*EPOCH).as_nanos();
        self.0.set(u64::try_from(since).unwrap_or(u64::MAX).max(1));
    }

    /// The moment; `None`: never.
    pub fn value(&self) -> Option<Instant> {
        let ns = self.0.value();
        (ns != 0).then(|| *EPOCH + Duration::from_nanos(ns))
    }
}

/// Fix the start of the process's monotonic time, before any [`Moment`] is set.
pub fn start_clock() {
    LazyLock::force(&EPOCH);
}

/// Why a datagram was not what its source's protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Invalid {
    /// RTP with a transport stream inside, on a source without RTP.
    RtpOnUdp,
    /// A bare transport stream, on an RTP source.
    TsOnRtp,
    /// RTP with something else inside.
    RtpNotTs,
    /// RTP with a transport stream inside, but its payload type is neither 33 nor dynamic.
    PayloadType,
    /// RTCP on the media port.
    Rtcp,
    /// Transport-stream packets of 204 bytes.
    Ts204,
    /// It begins like a transport stream, but its length is no multiple of 188.
    CutTs,
    /// No bytes at all.
    Empty,
    /// None of these.
    NotTs,
    /// A packet of another RTP stream than the one that runs.
    StrayRtp,
    /// Larger than any datagram we take.
    Truncated,
}

impl Invalid {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::RtpOnUdp,
        Self::TsOnRtp,
        Self::RtpNotTs,
        Self::PayloadType,
        Self::Rtcp,
        Self::Ts204,
        Self::CutTs,
        Self::Empty,
        Self::NotTs,
        Self::StrayRtp,
        Self::Truncated,
    ];

    /// In words, to stand after "what arrives is".
    pub const fn description(self) -> &'static str {
        match self {
            Self::RtpOnUdp => "MPEG-TS in RTP",
            Self::TsOnRtp => "MPEG-TS without RTP headers",
            Self::RtpNotTs => "RTP that carries no MPEG-TS",
            Self::PayloadType => "MPEG-TS in RTP of a static payload type that is not 33",
            Self::Rtcp => "RTCP, not media",
            Self::Ts204 => "MPEG-TS in 204-byte packets (with Reed-Solomon parity)",
            Self::CutTs => "MPEG-TS cut inside a packet (length not a multiple of 188 bytes)",
            Self::Empty => "empty datagrams",
            Self::NotTs => "no MPEG-TS",
            Self::StrayRtp => "a second RTP stream besides the one that runs",
            Self::Truncated => "longer than any UDP datagram",
        }
    }

    /// The name in status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RtpOnUdp => "rtp-on-udp-source",
            Self::TsOnRtp => "plain-ts-on-rtp-source",
            Self::RtpNotTs => "rtp-not-mpeg-ts",
            Self::PayloadType => "rtp-payload-type",
            Self::Rtcp => "rtcp",
            Self::Ts204 => "ts-204-byte-packets",
            Self::CutTs => "cut-mpeg-ts",
            Self::Empty => "empty",
            Self::NotTs => "not-mpeg-ts",
            Self::StrayRtp => "stray-rtp",
            Self::Truncated => "truncated",
        }
    }
}

/// What happened in a flow that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowEvent {
    /// Another source is on air.
    Switched {
        /// Was on air; `None`: nothing was, or it is gone.
        from: Option<String>,
        /// Is on air.
        to: String,
        /// Why.
        reason: Reason,
        /// From the last packet of the one to the first of the other.
        gap: Duration,
    },
    /// A leg of a merge carries other packets than the others; it is set aside.
    LegsNotIdentical {
        /// Which.
        source: String,
    },
    /// A leg that was set aside takes part again.
    LegRejoined {
        /// Which.
        source: String,
    },
}

/// Most events that wait for the control plane; the oldest go first.
const EVENTS: usize = 64;

/// The figures of a merge.
#[derive(Debug, Default)]
pub struct MergeStats {
    /// Packets handed on, in order.
    pub delivered: Figure,
    /// Missing on a leg, and brought by another.
    pub recovered: Figure,
    /// Missing on every leg.
    pub unrecovered: Figure,
    /// Legs that take part.
    pub active_legs: Figure,
    /// How far they lie apart.
    pub skew_ns: Figure,
    /// The delay now: the recovery window, or on the way to it.
    pub delay_ns: Figure,
    /// Of the stream that it gives.
    pub analysis: AnalysisStats,
}

/// A flow's figures, from its start.
#[derive(Debug, Default)]
pub struct FlowStats {
    /// How often another source went on air.
    pub switches: Figure,
    /// Of a merge.
    pub merge: MergeStats,
    /// What happened; locked by the flow's task only when something did.
    pub events: Mutex<VecDeque<FlowEvent>>,
    /// The gather budget in force, ns.
    pub budget: Figure,
    /// From the kernel's receive stamp until the packet had been handed to the kernel for all outputs.
    pub delays: Delays,
}

impl FlowStats {
    /// Something happened. Rare: it may wait for a reader for a moment.
    pub fn note(&self, event: FlowEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }
}

/// How many addresses a source remembers, of senders and of those denied.
pub const ADDRESSES: usize = 4;

/// The addresses a source has seen last.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Who sends, newest first, and since when.
    pub peers: Vec<(SocketAddr, SystemTime)>,
    /// Whom `allow` turned away, newest first.
    pub denied: Vec<IpAddr>,
}

/// A source's figures, from the flow's start.
#[derive(Debug, Default)]
pub struct SourceStats {
    /// Media datagrams accepted.
    pub packets: Figure,
    /// Bytes of transport stream accepted.
    pub bytes: Figure,
    /// Missing before any recovery.
    pub lost: Figure,
    /// Of those, brought back by FEC or by another leg of a merge.
    pub recovered: Figure,
    /// Of those, gone for good.
    pub unrecovered: Figure,
    /// Came twice.
    pub duplicate: Figure,
    /// Put back in order.
    pub reordered: Figure,
    /// Came after their place had been given up.
    pub late: Figure,
    /// From addresses `allow` does not list.
    pub denied: Figure,
    /// Not what the protocol says, by reason.
    pub invalid: [Figure; Invalid::ALL.len()],
    /// Above `max-bitrate`.
    pub over_bitrate: Figure,
    /// Lost by the kernel for want of receive buffer.
    pub kernel_dropped: Figure,
    /// Transport-stream packets without a sync byte.
    pub sync_errors: Figure,
    /// Streams that began anew.
    pub restarts: Figure,
    /// Interarrival jitter, ns (RFC 3550 section 6.4.1).
    pub jitter_ns: Figure,
    /// `1 << 32 | SSRC`; 0: no RTP yet.
    pub ssrc: Figure,
    /// The last media datagram.
    pub last_packet: Moment,
    /// 1 while the flow takes its packets from this source; in a merge, while the leg takes part.
    pub on_air: Figure,
    /// Transport-stream packets that do not follow on the one before on their PID; only where somebody asks.
    pub continuity_errors: Figure,
    /// Of an `rtp-fec` source.
    pub fec: FecStats,
    /// Encrypted, and no key for it, or in clear where it must not be.
    pub undecrypted: Figure,
    /// Requests to send again that were made.
    pub arq_requests: Figure,
    /// Packets that came because of them.
    pub arq_recovered: Figure,
    /// The round trip to the sender, ns; 0: not known.
    pub round_trip_ns: Figure,
    /// Of a leg of a merge.
    pub leg: LegStats,
    /// Of its stream; of a leg of a merge, as it comes, before anything is brought back.
    pub analysis: AnalysisStats,
    /// Of its content. What a merge gives counts at its first leg.
    pub decryption: DecryptionStats,
    /// Addresses; locked by the flow's task only when they changed, and never waited for.
    pub seen: Mutex<Seen>,
}

/// The figures of a source's forward error correction (ST 2022-1).
#[derive(Debug, Default)]
pub struct FecStats {
    /// Of the column stream, then of the row stream.
    pub streams: [FecStreamStats; 2],
    /// Media packets recovered by their column.
    pub recovered_by_column: Figure,
    /// Media packets recovered by their row.
    pub recovered_by_row: Figure,
    /// What FEC gave was no packet of transport stream.
    pub rejected: Figure,
    /// L, as the stream says; 0: not known.
    pub columns: Figure,
    /// D, as the stream says; 0: not known.
    pub rows: Figure,
}

/// The figures of one FEC stream.
#[derive(Debug, Default)]
pub struct FecStreamStats {
    /// FEC packets received.
    pub packets: Figure,
    /// FEC packets missing by their sequence numbers.
    pub lost: Figure,
    /// No FEC packets, or of no use.
    pub invalid: Figure,
}

/// The figures of one leg of a merge (ST 2022-7).
#[derive(Debug, Default)]
pub struct LegStats {
    /// It brought the first copy.
    pub first: Figure,
    /// Only this leg brought it.
    pub unique: Figure,
    /// Copies that are not the same as those of other legs.
    pub different: Figure,
    /// 1 while it is set aside because it carries other packets.
    pub aside: Figure,
    /// Whether there are figures of skew: 1.
    pub skewed: Figure,
    /// How far behind the leading leg its packets come now, at least and at most: nanoseconds, as an `i64`.
    pub skew_ns: [Figure; 3],
}

/// The kinds of send faults, in the order of their counters; all that are none of these count as the last.
const FAULTS: [SendError; 9] = [
    SendError::ConnectionRefused,
    SendError::HostUnreachable,
    SendError::NetworkUnreachable,
    SendError::PermissionDenied,
    SendError::NoBuffers,
    SendError::MessageTooLong,
    SendError::InvalidAddress,
    SendError::NoDevice,
    SendError::Other(0),
];

/// An output's figures, from the flow's start.
#[derive(Debug, Default)]
pub struct OutputStats {
    /// Media datagrams sent; what both legs carry counts once.
    pub packets: Figure,
    /// Bytes of transport stream sent; what both legs carry counts once.
    pub bytes: Figure,
    /// Media datagrams that could not be sent, on each leg.
    pub dropped: Figure,
    /// FEC packets sent; what both legs carry counts once.
    pub fec_packets: Figure,
    /// FEC packets that could not be sent, on each leg. They are no faults: the media goes on.
    pub fec_dropped: Figure,
    /// Media datagrams sent again on request.
    pub retransmitted: Figure,
    /// Media datagrams that receivers reported missing; again for each report that names one anew.
    pub lost: Figure,
    /// Requests to send again that receivers made.
    pub arq_requests: Figure,
    /// Receivers that are connected, where the protocol has connections.
    pub connected: Figure,
    /// What smoothing could not make even.
    pub smoothing: SmoothingStats,
    /// By number; an output without legs is leg 0.
    pub legs: [OutputLegStats; 2],
    /// Faults by kind; an ICMP answer counts here though its datagram was sent.
    pub faults: [Figure; FAULTS.len()],
    /// The last datagram sent.
    pub last_sent: Moment,
    /// The last fault of the leg whose last one is the longest ago: of an output that sends by one of its legs, none is
    /// young.
    pub last_fault: Moment,
    /// The number of the last fault's kind.
    pub last_fault_kind: Figure,
}

/// The figures of one leg of an output.
#[derive(Debug, Default)]
pub struct OutputLegStats {
    /// Media datagrams sent.
    pub packets: Figure,
    /// Media datagrams that could not be sent.
    pub dropped: Figure,
    /// Faults of any kind, ICMP answers among them.
    pub faults: Figure,
    /// The last fault.
    pub last_fault: Moment,
}

/// The figures of an output's smoothing; outputs with the same smoothing have the same.
#[derive(Debug, Default)]
pub struct SmoothingStats {
    /// Packets that came too late to leave evenly: they left at once.
    pub late: Figure,
    /// Packets that came too early: they left after twice the smoothing.
    pub early: Figure,
    /// Packets that left before their time for want of memory.
    pub overflow: Figure,
}

impl OutputStats {
    /// Count `n` faults of one kind. Whether the output as a whole has a fault is for [`Self::last_fault`] to say.
    pub fn count_fault(&self, fault: SendError, n: u64) {
        let kind = FAULTS.iter().position(|f| *f == fault).unwrap_or(FAULTS.len() - 1);
        self.faults[kind].add(n);
        self.last_fault_kind.set(kind as u64);
    }

    /// Something is wrong with a leg. The output has a fault while all of its legs (`there`) have.
    pub fn note_fault(
        &self,
        leg: usize,
        there: impl Iterator<Item = usize>,
        error: SendError,
        count: u64,
        now: Instant,
    ) {
        self.count_fault(error, count);
        self.legs[leg].faults.add(count);
        self.legs[leg].last_fault.set(now);
        let last = |leg: usize| self.legs[leg].last_fault.value();
        if let Some(at) = there.map(last).min().flatten() {
            self.last_fault.set(at);
        }
    }

    /// Faults by the name of their kind, without zeroes.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = FAULTS.iter().zip(&self.faults).map(|(kind, count)| (kind.name(), count.value()));
        named.filter(|(_, count)| *count > 0)
    }

    /// The kind of the last fault.
    pub fn last_fault_name(&self) -> &'static str {
        let kind = usize::try_from(self.last_fault_kind.value()).unwrap_or(usize::MAX);
        FAULTS.get(kind).unwrap_or(&SendError::Other(0)).name()
    }
}
