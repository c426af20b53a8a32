//! The status documents as text for Prometheus: format 0.0.4, or OpenMetrics 1.0. Names are the contract's; what has no
//! value now has no series.
//!
//! Peers have no series of their own: their ports are others with each call, and series would pile up without end. What
//! is told of an output is of all its receivers together, or of the one that is worst off; status has each of them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::condition::Refusal;
use super::log;
use super::status::{
    AccountDoc, AirMode, AlarmDoc, ConditionDoc, ContentDoc, EntitlementDoc, FlowDoc, FlowState, NotifierDoc,
    OutputDoc, OutputState, PeerDoc, Severity, SourceDoc, SourceState, SrtDoc, StatusDoc, TransportStreamDoc,
};
use super::text::cut;
use crate::config::plan::TagLabel;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// OpenMetrics' own; a gauge of 1 for Prometheus.
    Info,
}

/// One metric: its name without `_total` or `_info`, and what it says of a `T`.
struct Family<T: 'static> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Family<T> {
    Family { name, kind: Kind::Counter, help, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Family<T> {
    Family { name, kind: Kind::Gauge, help, value }
}

/// Exact up to 2^53, which is a year of bytes at 2 Gbit/s; readers take it for a float in any case.
#[expect(clippy::unnecessary_wraps, reason = "the shape of Family::value")]
fn n(value: u64) -> Option<f64> {
    Some(value as f64)
}

/// The connections of a source or output, where its protocol is SRT.
fn by_srt(peers: &[PeerDoc]) -> impl Iterator<Item = &SrtDoc> {
    peers.iter().filter_map(|peer| peer.srt.as_deref())
}

/// The greatest of all connections, in seconds; `None`: there is none.
fn most(peers: &[PeerDoc], ms: fn(&SrtDoc) -> Option<f64>) -> Option<f64> {
    by_srt(peers).filter_map(ms).reduce(f64::max).map(|ms| ms / 1e3)
}

const SOURCE: &[Family<SourceDoc>] = &[
    counter("mediaconnect_source_arq_recovered", "Packets that came because they were asked for again.", |s| {
        s.arq_recovered.and_then(n)
    }),
    counter("mediaconnect_source_arq_requests", "Requests to send again.", |s| s.arq_requests.and_then(n)),
    gauge("mediaconnect_source_bitrate_bits_per_second", "Media received, over the last second.", |s| n(s.bitrate_bps)),
    gauge("mediaconnect_source_buffer_seconds", "Media that waits for its time of delivery.", |s| {
        most(&s.peers, |srt| Some(srt.buffer_ms))
    }),
    counter("mediaconnect_source_bytes", "Bytes of transport stream accepted.", |s| n(s.bytes)),
    gauge(
        "mediaconnect_source_connected",
        "1 while media arrives; where the protocol has connections, while there is one.",
        |s| n(if has_connections(&s.protocol) { !s.peers.is_empty() } else { s.state == SourceState::Receiving }.into()),
    ),
    counter("mediaconnect_source_content_decrypted_packets", "Transport-stream packets decrypted.", |s| {
        s.decryption.as_ref().and_then(|d| n(d.packets_decrypted))
    }),
    gauge("mediaconnect_source_content_key_wrong", "1 while a key of `decryption` is a wrong one.", |s| {
        s.decryption.as_ref().and_then(|d| n((!d.wrong_keys.is_empty()).into()))
    }),
    counter("mediaconnect_source_content_undecrypted_packets", "Transport-stream packets without a key.", |s| {
        s.decryption.as_ref().and_then(|d| n(d.packets_without_key))
    }),
    counter("mediaconnect_source_disconnections", "Connections that ended.", |s| s.disconnections.and_then(n)),
    counter("mediaconnect_source_fec_packets", "FEC packets received, of columns and rows.", |s| {
        s.fec.as_ref().and_then(|f| n(f.column.packets + f.row.packets))
    }),
    counter("mediaconnect_source_fec_packets_invalid", "Came on a FEC port and were no FEC, or of no use.", |s| {
        s.fec.as_ref().and_then(|f| n(f.column.invalid + f.row.invalid))
    }),
    counter("mediaconnect_source_fec_packets_lost", "FEC packets missing.", |s| {
        s.fec.as_ref().and_then(|f| n(f.column.lost + f.row.lost))
    }),
    counter("mediaconnect_source_fec_recovered", "Media packets that FEC brought back.", |s| {
        s.fec.as_ref().and_then(|f| n(f.recovered_by_column + f.recovered_by_row))
    }),
    gauge("mediaconnect_source_jitter_seconds", "Interarrival jitter by RFC 3550.", |s| s.jitter_ms.map(|ms| ms / 1e3)),
    gauge("mediaconnect_source_latency_seconds", "From the sender's time stamp to delivery, as agreed on.", |s| {
        s.rist.as_ref().map(|rist| rist.latency_ms / 1e3).or(most(&s.peers, |srt| Some(srt.latency_ms)))
    }),
    counter("mediaconnect_source_merge_different", "Copies that other legs of the merge brought otherwise.", |s| {
        s.leg.as_ref().and_then(|l| n(l.different))
    }),
    gauge(
        "mediaconnect_source_merge_skew_seconds",
        "How far this leg is behind the leading one; negative: before.",
        |s| s.leg.as_ref().and_then(|l| l.skew_ms).map(|skew| skew.now / 1e3),
    ),
    counter("mediaconnect_source_merge_unique", "Packets of the merge that only this leg brought.", |s| {
        s.leg.as_ref().and_then(|l| n(l.unique))
    }),
    counter("mediaconnect_source_overflow_packets", "Lost by the kernel: the receive buffer was full.", |s| {
        n(s.packets_kernel_dropped)
    }),
    counter("mediaconnect_source_packets", "Media datagrams accepted.", |s| n(s.packets)),
    counter("mediaconnect_source_packets_denied", "From addresses that allow does not list.", |s| n(s.packets_denied)),
    counter("mediaconnect_source_packets_duplicate", "Came twice and were dropped once.", |s| n(s.packets_duplicate)),
    counter("mediaconnect_source_packets_invalid", "Not what the protocol says; dropped.", |s| n(s.packets_invalid)),
    counter("mediaconnect_source_packets_late", "Came after their place was given up; dropped.", |s| n(s.packets_late)),
    counter("mediaconnect_source_packets_lost", "Missing before any recovery.", |s| n(s.packets_lost)),
    counter("mediaconnect_source_packets_over_bitrate", "Dropped above max-bitrate.", |s| n(s.packets_over_bitrate)),
    counter("mediaconnect_source_packets_recovered", "Missing, then brought back.", |s| n(s.packets_recovered)),
    counter("mediaconnect_source_packets_reordered", "Came out of order and were put in order.", |s| {
        n(s.packets_reordered)
    }),
    counter("mediaconnect_source_packets_undecrypted", "Encrypted with a key that is not known here.", |s| {
        s.packets_undecrypted.and_then(n)
    }),
    counter("mediaconnect_source_packets_unrecovered", "Gone for good.", |s| n(s.packets_unrecovered)),
    gauge("mediaconnect_source_receive_buffer_bytes", "Receive buffer that the kernel granted.", |s| {
        n(s.receive_buffer_bytes).filter(|_| s.receive_buffer_bytes > 0)
    }),
    counter("mediaconnect_source_restarts", "Times the stream began anew.", |s| n(s.restarts)),
    gauge("mediaconnect_source_round_trip_seconds", "To the sender and back.", |s| s.round_trip_ms.map(|ms| ms / 1e3)),
    gauge("mediaconnect_source_selected", "1 while the flow takes its packets from this source.", |s| {
        n(s.on_air.into())
    }),
    counter("mediaconnect_source_sync_errors", "Transport-stream packets without 0x47 in place.", |s| n(s.sync_errors)),
];

const OUTPUT: &[Family<OutputDoc>] = &[
    counter("mediaconnect_output_arq_requests", "Requests of receivers to send again.", |o| o.arq_requests.and_then(n)),
    gauge("mediaconnect_output_bitrate_bits_per_second", "Media sent, over the last second.", |o| n(o.bitrate_bps)),
    gauge("mediaconnect_output_buffer_seconds", "Media that is not acknowledged; of the receiver with most.", |o| {
        most(&o.peers, |srt| Some(srt.buffer_ms))
    }),
    counter("mediaconnect_output_bytes", "Bytes of transport stream sent.", |o| n(o.bytes)),
    gauge(
        "mediaconnect_output_connected",
        "1 while packets leave; where the protocol has connections, while there is one.",
        |o| n(if has_connections(&o.protocol) { !o.peers.is_empty() } else { o.state == OutputState::Sending }.into()),
    ),
    counter("mediaconnect_output_content_encrypted_packets", "Transport-stream packets encrypted.", |o| {
        o.encryption.as_ref().and_then(|e| n(e.packets_encrypted))
    }),
    counter("mediaconnect_output_content_withheld_packets", "Transport-stream packets that no table names.", |o| {
        o.encryption.as_ref().and_then(|e| n(e.packets_withheld))
    }),
    counter("mediaconnect_output_disconnections", "Connections that ended.", |o| o.disconnections.and_then(n)),
    counter("mediaconnect_output_fec_packets", "FEC packets sent.", |o| o.fec_packets.and_then(n)),
    gauge("mediaconnect_output_latency_seconds", "As agreed on; of the receiver with the longest.", |o| {
        o.rist.as_ref().map(|rist| rist.latency_ms / 1e3).or(most(&o.peers, |srt| Some(srt.latency_ms)))
    }),
    gauge("mediaconnect_output_max_receivers", "Receivers that may be connected.", |o| o.max_callers.and_then(n)),
    counter("mediaconnect_output_packets", "Datagrams sent.", |o| n(o.packets)),
    counter("mediaconnect_output_packets_dropped", "Could not be sent.", |o| n(o.packets_dropped)),
    counter("mediaconnect_output_packets_lost", "Reported missing by receivers.", |o| o.packets_lost.and_then(n)),
    counter("mediaconnect_output_packets_retransmitted", "Sent again on request.", |o| n(o.packets_retransmitted)),
    gauge("mediaconnect_output_receivers", "Receivers that are connected.", |o| {
        n(o.peers.len() as u64).filter(|_| has_connections(&o.protocol))
    }),
    gauge("mediaconnect_output_round_trip_seconds", "To the receiver that is furthest away, and back.", |o| {
        let legs = o.rist.iter().flat_map(|rist| &rist.legs).filter_map(|leg| leg.rtt_ms);
        legs.reduce(f64::max).map(|ms| ms / 1e3).or(most(&o.peers, |srt| srt.rtt_ms))
    }),
    counter("mediaconnect_output_smoothing_late_packets", "Came too late to leave evenly: they left at once.", |o| {
        o.smoothing.and_then(|s| n(s.packets_late))
    }),
];

const ENTITLEMENT: &[Family<EntitlementDoc>] = &[
    gauge(
        "mediaconnect_entitlement_bitrate_bits_per_second",
        "Media sent, over the last second, to all sessions.",
        |e| n(e.bitrate_bps),
    ),
    counter("mediaconnect_entitlement_bytes", "Bytes of transport stream sent.", |e| n(e.bytes)),
    counter("mediaconnect_entitlement_disconnections", "Sessions that ended.", |e| n(e.disconnections)),
    gauge("mediaconnect_entitlement_max_sessions", "Sessions that there may be.", |e| n(e.max_sessions)),
    counter("mediaconnect_entitlement_packets", "Datagrams sent.", |e| n(e.packets)),
    counter("mediaconnect_entitlement_packets_dropped", "Could not be sent.", |e| n(e.packets_dropped)),
    counter("mediaconnect_entitlement_packets_retransmitted", "Sent again on request.", |e| n(e.packets_retransmitted)),
    gauge("mediaconnect_entitlement_sessions", "Sessions that are there.", |e| n(e.peers.len() as u64)),
];

/// Of each subscriber of an entitlement.
const ACCOUNT: &[Family<AccountDoc>] =
    &[
        counter("mediaconnect_entitlement_subscriber_bytes", "Bytes of transport stream sent to a subscriber.", |a| {
            n(a.bytes)
        }),
        gauge(
            "mediaconnect_entitlement_subscriber_p95_bits_per_second",
            "Of today's means of five minutes with a session, the 95th percentile; the day is that of UTC.",
            |a| a.today_p95_bps.and_then(n),
        ),
        counter("mediaconnect_entitlement_subscriber_seconds", "Time of a subscriber's sessions.", |a| n(a.seconds)),
        gauge("mediaconnect_entitlement_subscriber_sessions", "Sessions of a subscriber that are there.", |a| {
            n(a.sessions)
        }),
    ];

const FLOW: &[Family<FlowDoc>] = &[
    gauge("mediaconnect_flow_active", "1 while the flow's sockets are open.", |f| {
        n((f.state == FlowState::Active).into())
    }),
    gauge("mediaconnect_flow_audio_stream_missing", "1 while a program names a sound that does not come.", |f| {
        content(f, |c| c.audio_missing)
    }),
    gauge("mediaconnect_flow_black_frames_breaching", "1 while the picture has been black for too long.", |f| {
        content(f, |c| c.black)
    }),
    gauge("mediaconnect_flow_connected_outputs", "Outputs that send.", |f| {
        n(f.outputs.values().filter(|o| o.state == OutputState::Sending).count() as u64)
    }),
    counter("mediaconnect_flow_content_packets_dropped", "Not looked at: the helper did not take them in time.", |f| {
        f.content.as_ref().and_then(|c| n(c.packets_dropped))
    }),
    gauge(
        "mediaconnect_flow_delay_median_seconds",
        "From arrival until sent to all outputs, over the last seconds.",
        |f| f.added_delay_ms.map(|d| d.p50 / 1e3),
    ),
    gauge("mediaconnect_flow_delay_p99_seconds", "The same; one packet in a hundred took longer.", |f| {
        f.added_delay_ms.map(|d| d.p99 / 1e3)
    }),
    counter("mediaconnect_flow_failover_switches", "Times another source went on air.", |f| {
        f.failover.as_ref().filter(|doc| doc.mode == AirMode::Failover).and_then(|doc| n(doc.switches))
    }),
    gauge("mediaconnect_flow_frozen_frames_breaching", "1 while the picture has not moved for too long.", |f| {
        content(f, |c| c.frozen)
    }),
    gauge("mediaconnect_flow_gather_seconds", "How long packets may be gathered, as in force now.", |f| {
        f.gather_budget_ms.map(|ms| ms / 1e3)
    }),
    gauge("mediaconnect_flow_merge_active", "1 while two or more legs of the merge take part.", |f| {
        f.merge.as_ref().and_then(|m| n((m.active_legs > 1).into()))
    }),
    gauge("mediaconnect_flow_merge_active_legs", "Legs that take part in the merge.", |f| {
        f.merge.as_ref().and_then(|m| n(m.active_legs))
    }),
    gauge("mediaconnect_flow_merge_delay_seconds", "The delay that the merge adds.", |f| {
        f.merge.as_ref().map(|m| m.delay_ms / 1e3)
    }),
    counter("mediaconnect_flow_merge_packets", "Handed on by the merge.", |f| {
        f.merge.as_ref().and_then(|m| n(m.packets))
    }),
    counter("mediaconnect_flow_merge_packets_recovered", "Missing on a leg, brought by another.", |f| {
        f.merge.as_ref().and_then(|m| n(m.packets_recovered))
    }),
    counter("mediaconnect_flow_merge_packets_unrecovered", "Missing on every leg.", |f| {
        f.merge.as_ref().and_then(|m| n(m.packets_unrecovered))
    }),
    gauge("mediaconnect_flow_merge_skew_seconds", "How far the legs of the merge lie apart.", |f| {
        f.merge.as_ref().map(|m| m.skew_ms / 1e3)
    }),
    gauge("mediaconnect_flow_silent_audio_breaching", "1 while there has been no sound for too long.", |f| {
        content(f, |c| c.silent)
    }),
    gauge("mediaconnect_flow_stale_config", "1 while a newer file is rejected and the last good one runs.", |f| {
        n(f.stale_config.into())
    }),
    gauge("mediaconnect_flow_video_stream_missing", "1 while a program names a picture that does not come.", |f| {
        content(f, |c| c.video_missing)
    }),
];

/// 1 where it is wrong.
fn content(flow: &FlowDoc, wrong: fn(&ContentDoc) -> Option<bool>) -> Option<f64> {
    flow.content.as_ref().and_then(|content| wrong(content)).map(|wrong| f64::from(u8::from(wrong)))
}

fn has_connections(protocol: &str) -> bool {
    protocol.starts_with("srt-") || protocol == "entitlement"
}

/// Of a tag's value as a label, in bytes.
const LONGEST_TAG: usize = 128;

const ALARMS: &str = "mediaconnect_flow_alarm";
const CONDITIONS: &str = "mediaconnect_flow_condition";
const ERRORS: &str = "mediaconnect_output_errors";
const FLOW_TS_ERRORS: &str = "mediaconnect_flow_ts_errors";
const OUTPUT_REFUSED: &str = "mediaconnect_output_calls_refused";
const SOURCE_REFUSED: &str = "mediaconnect_source_calls_refused";
const SOURCE_TS_ERRORS: &str = "mediaconnect_source_ts_errors";

/// A scrape in the making: flows are taken one by one, and only what is written of them is kept.
#[derive(Debug)]
pub struct Scrape {
    format: Format,
    tag_labels: Vec<TagLabel>,
    flows: Vec<Row<{ FLOW.len() }>>,
    sources: Vec<Row<{ SOURCE.len() }>>,
    outputs: Vec<Row<{ OUTPUT.len() }>>,
    entitlements: Vec<Row<{ ENTITLEMENT.len() }>>,
    accounts: Vec<Row<{ ACCOUNT.len() }>>,
    alarms: String,
    conditions: String,
    errors: String,
    source_refused: String,
    output_refused: String,
    flow_ts_errors: String,
    source_ts_errors: String,
}

/// One series of each family of a table: their labels, and their values in the order of the table.
#[derive(Debug)]
struct Row<const N: usize> {
    labels: String,
    values: [Option<f64>; N],
}

impl<const N: usize> Row<N> {
    fn new<T>(labels: String, families: &[Family<T>], of: &T) -> Self {
        Self { labels, values: std::array::from_fn(|n| (families[n].value)(of)) }
    }
}

impl Scrape {
    /// Without flows. These tags of flows become labels of all their series.
    pub fn new(format: Format, tag_labels: Vec<TagLabel>) -> Self {
        Self {
            format,
            tag_labels,
            flows: Vec::new(),
            sources: Vec::new(),
            outputs: Vec::new(),
            entitlements: Vec::new(),
            accounts: Vec::new(),
            alarms: String::new(),
            conditions: String::new(),
            errors: String::new(),
            source_refused: String::new(),
            output_refused: String::new(),
            flow_ts_errors: String::new(),
            source_ts_errors: String::new(),
        }
    }

    /// The metrics of one flow more.
    pub fn add(&mut self, flow: &FlowDoc) {
        let tags = self.tag_labels.iter().filter_map(|known| Some((&known.label, flow.tags.get(&known.tag)?)));
        let of = tags.fold(label("flow", &flow.name), |of, (name, value)| and(&of, name, cut(value, LONGEST_TAG)));
        alarms(&mut self.alarms, ALARMS, &of, &flow.alarms);
        conditions(&mut self.conditions, CONDITIONS, &of, &flow.conditions);
        ts_errors(&mut self.flow_ts_errors, FLOW_TS_ERRORS, &of, flow.transport_stream.as_deref());
        for (name, source) in &flow.sources {
            let of = and(&of, "source", name);
            if source.calls_refused.is_some() {
                refused(&mut self.source_refused, SOURCE_REFUSED, &of, &source.refused_by_reason);
            }
            ts_errors(&mut self.source_ts_errors, SOURCE_TS_ERRORS, &of, source.transport_stream.as_deref());
            self.sources.push(Row::new(of, SOURCE, source));
        }
        for (name, output) in &flow.outputs {
            let of = and(&of, "output", name);
            for (error, count) in &output.errors {
                sample(&mut self.errors, ERRORS, Kind::Counter, &and(&of, "error", error), *count as f64);
            }
            if output.calls_refused.is_some() {
                refused(&mut self.output_refused, OUTPUT_REFUSED, &of, &output.refused_by_reason);
            }
            self.outputs.push(Row::new(of, OUTPUT, output));
        }
        for (name, entitlement) in &flow.entitlements {
            let of = and(&of, "entitlement", name);
            for (subscriber, account) in &entitlement.subscribers {
                self.accounts.push(Row::new(and(&of, "subscriber", subscriber), ACCOUNT, account));
            }
            self.entitlements.push(Row::new(of, ENTITLEMENT, entitlement));
        }
        self.flows.push(Row::new(of, FLOW, flow));
    }

    /// All of it: the appliance's metrics, and those of the flows.
    pub fn finish(self, status: &StatusDoc) -> String {
        let series =
            FLOW.len() * self.flows.len() + SOURCE.len() * self.sources.len() + OUTPUT.len() * self.outputs.len();
        let refused = [&self.source_refused, &self.output_refused];
        let ts_errors = [&self.flow_ts_errors, &self.source_ts_errors];
        let others = [&self.alarms, &self.conditions, &self.errors].into_iter().chain(refused).chain(ts_errors);
        let room = 8192 + series * 96 + others.map(|text| text.len()).sum::<usize>();
        let mut to = Text { out: String::with_capacity(room), format: self.format };
        appliance(&mut to, status);
        to.families(FLOW, &self.flows);
        to.family(ALARMS, Kind::Gauge, "Sources and outputs, or the flow, for which an alarm is raised.", &self.alarms);
        to.family(CONDITIONS, Kind::Gauge, "1 for each condition of a flow.", &self.conditions);
        let help = "Errors by TR 101 290 in what a merge gives, by check.";
        to.family(FLOW_TS_ERRORS, Kind::Counter, help, &self.flow_ts_errors);
        to.families(SOURCE, &self.sources);
        to.family(SOURCE_TS_ERRORS, Kind::Counter, "Errors by TR 101 290, by check.", &self.source_ts_errors);
        to.family(SOURCE_REFUSED, Kind::Counter, "Calls that were turned away, by reason.", &self.source_refused);
        to.families(OUTPUT, &self.outputs);
        to.family(OUTPUT_REFUSED, Kind::Counter, "Calls that were turned away, by reason.", &self.output_refused);
        to.families(ENTITLEMENT, &self.entitlements);
        to.families(ACCOUNT, &self.accounts);
        to.family(ERRORS, Kind::Counter, "Datagrams that could not be sent, by error.", &self.errors);
        if self.format == Format::OpenMetrics {
            to.out.push_str("# EOF\n");
        }
        to.out
    }
}

/// Errors by each check, where there is an analysis.
fn ts_errors(text: &mut String, name: &str, part: &str, analysis: Option<&TransportStreamDoc>) {
    for (check, errors) in analysis.into_iter().flat_map(|analysis| &analysis.errors) {
        sample(text, name, Kind::Counter, &and(part, "check", check), *errors as f64);
    }
}

/// Calls that were turned away, by each reason there is: a counter that begins with its first event would hide that one.
fn refused(text: &mut String, name: &str, part: &str, by_reason: &BTreeMap<String, u64>) {
    refused_by(Refusal::CODES, text, name, part, by_reason);
}

/// The same, of these reasons.
fn refused_by(reasons: &[&str], text: &mut String, name: &str, part: &str, by_reason: &BTreeMap<String, u64>) {
    for reason in reasons {
        let count = by_reason.get(*reason).copied().unwrap_or(0);
        sample(text, name, Kind::Counter, &and(part, "reason", reason), count as f64);
    }
}

/// Sources and outputs of a flow may be in the same condition: one series tells of both.
fn conditions(text: &mut String, name: &str, flow: &str, all: &[ConditionDoc]) {
    let mut all: Vec<_> = all.iter().map(|c| (c.code.as_str(), severity(c.severity))).collect();
    all.sort_unstable();
    all.dedup_by_key(|(code, _)| *code);
    for (code, severity) in all {
        sample(text, name, Kind::Gauge, &and(&and(flow, "code", code), "severity", severity), 1.0);
    }
}

/// One series for each alarm that is raised, whatever it is about.
fn alarms(text: &mut String, name: &str, flow: &str, all: &[AlarmDoc]) {
    let mut raised: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for alarm in all {
        *raised.entry((&alarm.name, severity(alarm.severity))).or_default() += 1;
    }
    for ((alarm, severity), count) in raised {
        let labels = and(&and(flow, "alarm", alarm), "severity", severity);
        sample(text, name, Kind::Gauge, &labels, count as f64);
    }
}

/// What notifiers do.
fn notifiers(to: &mut Text, status: &StatusDoc) {
    const FAMILIES: &[Family<NotifierDoc>] = &[
        counter("mediaconnect_notifier_dropped", "Events that were not told and never will be.", |d| n(d.dropped)),
        counter("mediaconnect_notifier_failures", "Attempts to tell that failed.", |d| n(d.failures)),
        counter("mediaconnect_notifier_told", "Events that were told.", |d| n(d.told)),
        gauge("mediaconnect_notifier_waiting", "Events that are to be told yet.", |d| n(d.waiting as u64)),
    ];
    let row =
        |(name, doc): (&String, &NotifierDoc)| Row::<{ FAMILIES.len() }>::new(label("notifier", name), FAMILIES, doc);
    let rows: Vec<_> = status.notifiers.iter().map(row).collect();
    to.families(FAMILIES, &rows);
}

fn sample(text: &mut String, name: &str, kind: Kind, labels: &str, value: f64) {
    text.push_str(name);
    text.push_str(match kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge => "",
    });
    if !labels.is_empty() {
        text.push('{');
        text.push_str(labels);
        text.push('}');
    }
    // Writing to a String cannot fail. Nearly all are whole, which is written faster so.
    let _ = if (0.0..1e15).contains(&value) && value.fract() == 0.0 {
        writeln!(text, " {}", value as u64)
    } else {
        writeln!(text, " {value}")
    };
}

fn appliance(to: &mut Text, status: &StatusDoc) {
    to.single("mediaconnect_build", Kind::Info, "The version that runs.", &label("version", &status.version), 1.0);
    let (name, mut text) = ("mediaconnect_alarm", String::new());
    alarms(&mut text, name, "", &status.alarms);
    to.family(name, Kind::Gauge, "1 for each alarm of the appliance that is raised.", &text);
    let (name, mut text) = ("mediaconnect_condition", String::new());
    conditions(&mut text, name, "", &status.conditions);
    to.family(name, Kind::Gauge, "1 for each condition of the appliance.", &text);
    let config = &status.config;
    let name = "mediaconnect_config_generation";
    to.single(name, Kind::Gauge, "Reloads that changed something, from 1 at start.", "", config.generation as f64);
    let name = "mediaconnect_config_last_reload_success";
    to.single(name, Kind::Gauge, "1 if the last reload accepted every file.", "", f64::from(u8::from(config.success)));
    let moment = humantime::parse_rfc3339(&config.last_reload).ok();
    if let Some(since) = moment.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()) {
        let name = "mediaconnect_config_last_reload_timestamp_seconds";
        to.single(name, Kind::Gauge, "When files were last read and applied.", "", since.as_secs() as f64);
    }
    let name = "mediaconnect_config_stale_flows";
    to.single(name, Kind::Gauge, "Flows whose newer file is rejected.", "", status.flows.stale as f64);
    let (name, refused) = ("mediaconnect_http_requests_refused", status.http_requests_refused);
    to.single(name, Kind::Counter, "Requests over [http] listen without the token.", "", refused as f64);
    to.head("mediaconnect_flows", Kind::Gauge, "Flows by state.");
    let f = status.flows;
    for (state, count) in [("active", f.active), ("error", f.error), ("standby", f.standby), ("starting", f.starting)] {
        sample(&mut to.out, "mediaconnect_flows", Kind::Gauge, &label("state", state), count as f64);
    }
    let name = "mediaconnect_log_lines_dropped";
    to.single(
        name,
        Kind::Counter,
        "Log lines that came faster than they could be written.",
        "",
        log::lines_dropped() as f64,
    );
    if let Some(entitlements) = &status.entitlements {
        let (name, mut text) = ("mediaconnect_entitlement_refused", String::new());
        refused_by(&Refusal::OF_ENTITLEMENTS, &mut text, name, "", &entitlements.refused_by_reason);
        to.family(name, Kind::Counter, "Calls for entitlements that were turned away, by reason.", &text);
    }
    notifiers(to, status);
    let name = "mediaconnect_uptime_seconds";
    to.single(name, Kind::Gauge, "Since the daemon started.", "", status.uptime_seconds as f64);
}

/// The text as it grows.
struct Text {
    out: String,
    format: Format,
}

impl Text {
    /// Metadata of a family. OpenMetrics names the family, Prometheus the series.
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let (suffix, word) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Format::OpenMetrics, Kind::Info) => ("", "info"),
            (Format::Prometheus, Kind::Counter) => ("_total", "counter"),
            (Format::Prometheus, Kind::Info) => ("_info", "gauge"),
            (_, Kind::Gauge) => ("", "gauge"),
        };
        self.put(format_args!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {word}\n"));
        let unit = ["bits_per_second", "seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.put(format_args!("# UNIT {name} {unit}\n"));
        }
    }

    /// A family of one series.
    fn single(&mut self, name: &str, kind: Kind, help: &str, labels: &str, value: f64) {
        self.head(name, kind, help);
        sample(&mut self.out, name, kind, labels, value);
    }

    /// A family whose samples are written; nothing if there are none.
    fn family(&mut self, name: &str, kind: Kind, help: &str, samples: &str) {
        if !samples.is_empty() {
            self.head(name, kind, help);
            self.out.push_str(samples);
        }
    }

    fn families<T, const N: usize>(&mut self, families: &[Family<T>], rows: &[Row<N>]) {
        for (n, Family { name, kind, help, .. }) in families.iter().enumerate() {
            let mut samples = rows.iter().filter_map(|row| Some((&row.labels, row.values[n]?))).peekable();
            if samples.peek().is_some() {
                self.head(name, *kind, help);
            }
            for (labels, value) in samples {
                sample(&mut self.out, name, *kind, labels, value);
            }
        }
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Major => "major",
        Severity::Minor => "minor",
        Severity::Info => "info",
    }
}

/// `name="value"`, the value escaped.
fn label(name: &str, value: &str) -> String {
    and("", name, value)
}

/// `labels,name="value"`, the value escaped.
fn and(labels: &str, name: &str, value: &str) -> String {
    let mut out = String::with_capacity(labels.len() + name.len() + value.len() + 4);
    out.push_str(labels);
    out.push_str(if labels.is_empty() { "" } else { "," });
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
