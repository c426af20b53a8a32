//! `status`: all flows as a table, or one flow in detail.

mod entitlement;
mod rist;
mod srt;
mod transport_stream;

use std::fmt::Write;
use std::time::Duration;

use self::transport_stream::transport_stream;
use super::explain::{alarms, conditions};
use super::text::{Align, Paint, Style, Table, clean, word};
use crate::observe::status::{
    AirMode, FailoverDoc, FecDoc, FlowDoc, FlowState, LegDoc, MergeDoc, OutputDoc, OutputState, OverrideDoc, SourceDoc,
    SourceState, StatusDoc,
};
use crate::observe::text::{count, rate, span};

/// The appliance, and a line a flow.
pub(super) fn overview(status: &StatusDoc, flows: &[FlowDoc], style: Style) -> String {
    let mut out = String::new();
    let counts = status.flows;
    let _ = write!(
        out,
        "{} {}, up {}; {}",
        style.paint(Paint::Strong, "mediaconnectd"),
        clean(&status.version),
        span(Duration::from_secs(status.uptime_seconds)),
        count(counts.total as u64, "flow")
    );
    for (n, what, paint) in [
        (counts.active, "active", Paint::Plain),
        (counts.standby, "standby", Paint::Plain),
        (counts.starting, "starting", Paint::Warn),
        (counts.error, "in error", Paint::Bad),
        (counts.stale, "with a rejected file", Paint::Bad),
    ] {
        if n > 0 {
            let _ = write!(out, ", {}", style.paint(paint, &format!("{n} {what}")));
        }
    }
    let config = &status.config;
    let verdict = if config.success {
        "accepted".to_owned()
    } else {
        style.paint(Paint::Bad, "not all accepted: see mediaconnectctl check")
    };
    let _ = writeln!(
        out,
        "\nconfiguration: generation {}, last reload {}, {verdict}",
        config.generation,
        clean(&config.last_reload)
    );
    if let Some(entitlements) = &status.entitlements {
        entitlement::port(&mut out, entitlements, style);
    }
    out.push_str(&conditions(&status.conditions, style));
    let mut table = Table::new(&[
        ("FLOW", Align::Left),
        ("STATE", Align::Left),
        ("ON AIR", Align::Left),
        ("BITRATE", Align::Right),
        ("PACKETS", Align::Right),
        ("LOST", Align::Right),
        ("OUTPUTS", Align::Right),
        ("WORST CONDITION", Align::Left),
    ]);
    for flow in flows {
        table.row(line(flow));
    }
    if !flows.is_empty() {
        out.push('\n');
    }
    out.push_str(&table.render(style, ""));
    out
}

fn line(flow: &FlowDoc) -> [(String, Paint); 8] {
    let plain = |text: String| (text, Paint::Plain);
    let stale = if flow.stale_config { ", stale" } else { "" };
    let state_paint = if flow.stale_config { Paint::Bad } else { paint_of_flow(flow.state) };
    // Of several sources that are on air at once the first stands for all.
    let on_air = flow.sources.iter().find(|(_, s)| s.on_air).or_else(|| flow.sources.iter().next());
    let source = merged(flow)
        .or_else(|| on_air.map(|(name, s)| (format!("{name} {}", word(s.state)), paint_of_source(s.state))));
    let source = source.unwrap_or_else(|| ("-".to_owned(), Paint::Faint));
    let sum = |figure: fn(&SourceDoc) -> u64| flow.sources.values().map(figure).sum::<u64>();
    let (packets, lost) = flow.merge.as_ref().map_or_else(
        || (sum(|s| s.packets), sum(|s| s.packets_unrecovered)),
        |merge| (merge.packets, merge.packets_unrecovered),
    );
    let sending = flow.outputs.values().filter(|o| o.state == OutputState::Sending).count();
    let failing = flow.outputs.values().any(|o| o.state == OutputState::Error);
    let worst = flow.conditions.first().map_or_else(
        || plain(String::new()),
        |c| (format!("{}: {}", word(c.severity), c.message), Paint::of(c.severity)),
    );
    [
        plain(flow.name.clone()),
        (format!("{}{stale}", word(flow.state)), state_paint),
        source,
        plain(rate(on_air.map_or(0, |(_, s)| s.bitrate_bps))),
        plain(packets.to_string()),
        (lost.to_string(), if lost > 0 { Paint::Warn } else { Paint::Plain }),
        (format!("{sending}/{}", flow.outputs.len()), if failing { Paint::Bad } else { Paint::Plain }),
        worst,
    ]
}

/// Of a merge: how many of its legs take part.
fn merged(flow: &FlowDoc) -> Option<(String, Paint)> {
    let (active, legs) = (flow.merge.as_ref()?.active_legs, flow.sources.len());
    let paint = match active {
        0 => Paint::Bad,
        n if n < legs as u64 => Paint::Warn,
        _ => Paint::Good,
    };
    Some((format!("{active}/{legs} legs merged"), paint))
}

/// What a merge makes of its legs.
pub(super) fn legs(merge: &MergeDoc) -> String {
    let class = merge.class.as_ref().map_or(String::new(), |class| format!(", class {}", clean(class)));
    format!(
        "merged from {}, {} ms apart{class}: {}, {} lost",
        count(merge.active_legs, "leg"),
        merge.skew_ms,
        count(merge.packets, "packet"),
        merge.packets_unrecovered
    )
}

/// Which source is on air, and since when.
fn air(doc: &FailoverDoc) -> String {
    let mut text = match &doc.on_air {
        Some(on_air) => format!("failover: {} on air", clean(on_air)),
        None => "failover: no source on air yet".to_owned(),
    };
    if let Some(primary) = &doc.primary {
        let _ = write!(text, ", primary {}", clean(primary));
    }
    let times = doc.switches;
    let _ = write!(text, ", switched {times} {}", if times == 1 { "time" } else { "times" });
    if let Some(last) = &doc.last_switch {
        let from = last.from.as_ref().map_or(String::new(), |from| format!(" from {}", clean(from)));
        let (at, to, reason) = (clean(&last.at), clean(&last.to), clean(&last.reason));
        let _ = write!(text, ", last at {at}{from} to {to} ({reason}, gap {} ms)", last.gap_ms);
    }
    text
}

fn fec(f: &FecDoc) -> String {
    let matrix = match f.columns {
        0 => "matrix not known".to_owned(),
        columns => format!("{columns} x {}", f.rows),
    };
    let stream =
        |s: &crate::observe::status::FecStreamDoc| format!("{} ({} lost, {} invalid)", s.packets, s.lost, s.invalid);
    let (column, row) = (stream(&f.column), stream(&f.row));
    let (by_column, by_row) = (f.recovered_by_column, f.recovered_by_row);
    format!("{matrix}; columns {column}, rows {row}; recovered {by_column} by column, {by_row} by row")
}

fn leg(l: &LegDoc) -> String {
    let mut text = format!("{} first, {} only here, {} late, {} different", l.first, l.unique, l.late, l.different);
    if let Some(skew) = l.skew_ms {
        let _ = write!(text, "; skew {} ms ({} to {})", skew.now, skew.min, skew.max);
    }
    if l.aside {
        text.push_str("; set aside");
    }
    text
}

/// How long packets are gathered, and how long they take.
fn delays(flow: &FlowDoc) -> String {
    let mut text = format!("gather {}", clean(&flow.gather));
    if let Some(budget) = flow.gather_budget_ms.filter(|_| flow.gather == "auto") {
        let _ = write!(text, " (now {budget} ms)");
    }
    if let Some(delay) = flow.added_delay_ms {
        let _ = write!(text, ", added delay {} ms (p99 {} ms)", delay.p50, delay.p99);
    }
    text
}

/// One flow with all of its figures.
pub(super) fn detail(flow: &FlowDoc, style: Style) -> String {
    let mut out = String::new();
    let state = style.paint(paint_of_flow(flow.state), &word(flow.state));
    let _ = writeln!(out, "{}: {state}, {}", style.paint(Paint::Strong, &flow.name), delays(flow));
    if flow.stale_config {
        let _ = writeln!(out, "  {}", style.paint(Paint::Bad, "its file is rejected: the last good version runs"));
    }
    if !flow.description.is_empty() {
        let _ = writeln!(out, "  {}", clean(&flow.description));
    }
    for (key, value) in &flow.tags {
        let _ = writeln!(out, "  {} = {}", clean(key), clean(value));
    }
    if let Some(by) = &flow.operator_override {
        let _ = writeln!(out, "  {}", overridden(by));
    }
    if let Some(doc) = flow.failover.as_ref().filter(|doc| doc.mode == AirMode::Failover) {
        let _ = writeln!(out, "  {}", air(doc));
    }
    if let Some(merge) = &flow.merge {
        let (back, delay) = (merge.packets_recovered, merge.delay_ms);
        let _ = writeln!(out, "  {}, {back} brought by another leg, delay {delay} ms", legs(merge));
    }
    for (name, source) in &flow.sources {
        source_detail(&mut out, name, source, style);
    }
    let mut table = Table::new(&[
        ("OUTPUT", Align::Left),
        ("PROTOCOL", Align::Left),
        ("DESTINATION", Align::Left),
        ("STATE", Align::Left),
        ("BITRATE", Align::Right),
        ("PACKETS", Align::Right),
        ("DROPPED", Align::Right),
        ("NOTES", Align::Left),
    ]);
    for (name, output) in &flow.outputs {
        table.row(output_line(name, output));
    }
    if !flow.outputs.is_empty() {
        out.push('\n');
    }
    out.push_str(&table.render(style, ""));
    for (name, output) in &flow.outputs {
        let title = style.paint(Paint::Strong, &format!("output {name}"));
        srt::output(&mut out, &title, output);
        rist::output(&mut out, &title, output);
    }
    for (name, doc) in &flow.entitlements {
        entitlement::detail(&mut out, name, doc, style);
    }
    out.push_str(&alarms(&flow.alarms, style));
    if !flow.conditions.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(Paint::Strong, "CONDITIONS"));
        out.push_str(&conditions(&flow.conditions, style));
    }
    out
}

fn source_detail(out: &mut String, name: &str, s: &SourceDoc, style: Style) {
    let on_air = if s.on_air { ", on air" } else { "" };
    let state = style.paint(paint_of_source(s.state), &word(s.state));
    let title = style.paint(Paint::Strong, &format!("source {name}"));
    let _ = writeln!(out, "\n{title} ({}{on_air}): {state}, {}", clean(&s.protocol), rate(s.bitrate_bps));
    let say = |out: &mut String, key: &str, value: &str| {
        let _ = writeln!(out, "  {key:<9} {}", clean(value));
    };
    if !s.description.is_empty() {
        say(out, "about", &s.description);
    }
    let calls = matches!(s.protocol.as_str(), "srt-caller" | "srt-rendezvous" | "entitlement");
    say(out, if calls { "remote" } else { "bind" }, &s.bind);
    srt::peers(out, &s.peers);
    srt::calls(out, s.disconnections, s.calls_refused, &s.refused_by_reason, &s.refused);
    say(out, "packets", &s.packets.to_string());
    let (lost, back, gone) = (s.packets_lost, s.packets_recovered, s.packets_unrecovered);
    say(out, "lost", &format!("{lost}, recovered {back}, unrecovered {gone}"));
    if let (Some(requests), Some(recovered)) = (s.arq_requests, s.arq_recovered) {
        say(out, "arq", &format!("{}, {recovered} brought back", count(requests, "request")));
    }
    if let Some(r) = &s.rist {
        rist::source(out, r);
    }
    if let Some(f) = &s.fec {
        say(out, "fec", &fec(f));
    }
    if let Some(l) = &s.leg {
        say(out, "leg", &leg(l));
    }
    let (twice, moved, late) = (s.packets_duplicate, s.packets_reordered, s.packets_late);
    say(out, "order", &format!("{twice} duplicate, {moved} reordered, {late} late"));
    say(out, "dropped", &dropped(s));
    if s.sync_errors > 0 {
        say(out, "sync", &count(s.sync_errors, "error"));
    }
    if let Some(jitter) = s.jitter_ms {
        say(out, "jitter", &format!("{jitter:.3} ms"));
    }
    if let Some(ssrc) = &s.ssrc {
        say(out, "stream", &format!("SSRC {ssrc}, {}", count(s.restarts, "restart")));
    }
    if let Some(d) = &s.decryption {
        let wrong =
            if d.wrong_keys.is_empty() { String::new() } else { format!("; wrong key: {}", d.wrong_keys.join(", ")) };
        let (done, left) = (count(d.packets_decrypted, "TS packet"), d.packets_without_key);
        say(out, "content", &format!("{}: {done} decrypted, {left} without a key{wrong}", d.scheme.to_uppercase()));
    }
    if let Some(ts) = &s.transport_stream {
        transport_stream(out, ts);
    }
    if s.receive_buffer_bytes > 0 {
        say(out, "buffer", &format!("{} KiB", s.receive_buffer_bytes / 1024));
    }
}

fn dropped(s: &SourceDoc) -> String {
    let why: Vec<String> = s.invalid.iter().map(|(why, n)| format!("{why} {n}")).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    let (invalid, over, kernel) = (s.packets_invalid, s.packets_over_bitrate, s.packets_kernel_dropped);
    let rest = format!("{invalid} invalid{why}, {over} over bitrate, {kernel} by the kernel");
    if let (Some(undecrypted), None) = (s.packets_undecrypted, &s.rist) {
        return format!("{undecrypted} undecrypted, {rest}");
    }
    let from =
        if s.denied_addresses.is_empty() { String::new() } else { format!(" ({})", s.denied_addresses.join(", ")) };
    let undecrypted = s.packets_undecrypted.map_or_else(String::new, |n| format!("{n} undecrypted, "));
    format!("{} denied{from}, {undecrypted}{rest}", s.packets_denied)
}

fn output_line(name: &str, o: &OutputDoc) -> [(String, Paint); 8] {
    let plain = |text: String| (text, Paint::Plain);
    let paint = match o.state {
        OutputState::Sending => Paint::Good,
        OutputState::Error => Paint::Bad,
        OutputState::Connecting => Paint::Warn,
        OutputState::Idle => Paint::Faint,
    };
    let mut notes: Vec<String> = srt::callers(o).into_iter().collect();
    notes.extend(o.calls_refused.filter(|n| *n > 0).map(|n| format!("{} refused", count(n, "call"))));
    notes.extend(o.errors.iter().map(|(error, n)| format!("{error} {n}")));
    notes.extend(o.operator_override.as_ref().map(overridden));
    notes.extend(o.ssrc.as_ref().map(|ssrc| format!("SSRC {ssrc}")));
    notes.extend(o.fec_packets.map(|packets| format!("FEC {packets}")));
    notes.extend(o.encryption.as_ref().map(|e| {
        let withheld =
            if e.packets_withheld > 0 { format!(", {} withheld", e.packets_withheld) } else { String::new() };
        format!("{} with the {} key{withheld}", e.scheme.to_uppercase(), e.key)
    }));
    notes.extend(o.smoothing.filter(|s| s.packets_late > 0).map(|s| format!("{} too late to smooth", s.packets_late)));
    notes.extend(o.legs.iter().map(|leg| {
        let trouble = if leg.open { "" } else { ", not open" };
        format!("leg {}: {} sent, {} dropped{trouble}", clean(&leg.destination), leg.packets, leg.packets_dropped)
    }));
    if !o.description.is_empty() {
        notes.push(o.description.clone());
    }
    [
        plain(name.to_owned()),
        plain(o.protocol.clone()),
        plain(o.destination.clone()),
        (word(o.state), paint),
        plain(rate(o.bitrate_bps)),
        plain(o.packets.to_string()),
        (o.packets_dropped.to_string(), if o.packets_dropped > 0 { Paint::Warn } else { Paint::Plain }),
        plain(notes.join("; ")),
    ]
}

fn overridden(by: &OverrideDoc) -> String {
    format!("operator's override: {} by {} since {}", clean(&by.action), clean(&by.by), clean(&by.since))
}

const fn paint_of_flow(state: FlowState) -> Paint {
    match state {
        FlowState::Active => Paint::Good,
        FlowState::Standby => Paint::Faint,
        FlowState::Starting => Paint::Warn,
        FlowState::Error => Paint::Bad,
    }
}

const fn paint_of_source(state: SourceState) -> Paint {
    match state {
        SourceState::Receiving => Paint::Good,
        SourceState::Idle | SourceState::Connecting => Paint::Warn,
        SourceState::Lost => Paint::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    const PLAIN: Style = Style { colour: false };

    #[test]
    fn the_overview_has_the_appliance_and_a_line_a_flow() {
        insta::assert_snapshot!(overview(&sample::status(), &sample::flows(), PLAIN), @r#"
            mediaconnectd 0.1.0, up 3days 4h; 3 flows, 2 active, 1 standby, 1 with a rejected file
            configuration: generation 12, last reload 2026-03-01T09:30:00Z, not all accepted: see mediaconnectctl check
              major, since 2026-03-01T09:30:00Z: [http] can't listen on 10.0.0.9:9740: cannot assign requested address
                See who holds port 9740 with `ss -ltnp`, or change `listen` in [http]; it is retried.

            FLOW       STATE          ON AIR                 BITRATE    PACKETS  LOST  OUTPUTS  WORST CONDITION
            news       active, stale  venue-a receiving  12.3 Mbit/s  104857600    17      1/2  major: output playout: 239.10.0.1:5000 can't be reached: network is unreachable, 812 packets dropped
            sport      active         feed receiving     40.0 Mbit/s       9000     0      1/1
            test-card  standby        -                      0 bit/s          0     0      0/0  info: stopped by bob since 2026-03-01T07:00:00Z
            "#);
    }

    #[test]
    fn an_appliance_without_flows_is_two_lines() {
        let mut status = sample::status();
        status.flows = Default::default();
        status.conditions.clear();
        status.config.success = true;
        insta::assert_snapshot!(overview(&status, &[], PLAIN), @r#"
            mediaconnectd 0.1.0, up 3days 4h; 0 flows
            configuration: generation 12, last reload 2026-03-01T09:30:00Z, accepted
            "#);
    }

    #[test]
    fn the_detail_has_every_figure_of_a_flow() {
        insta::assert_snapshot!(detail(&sample::flow("news"), PLAIN), @r#"
            news: active, gather auto (now 0.5 ms), added delay 0.297 ms (p99 0.754 ms)
              its file is rejected: the last good version runs
              News contribution, venue A
              Channel = news-1

            source venue-a (rtp, on air): receiving, 12.3 Mbit/s
              bind      239.1.1.1:5000
              from      203.0.113.10:41522 since 2026-02-26T05:24:01Z
              packets   104857600
              lost      17, recovered 0, unrecovered 17
              order     3 duplicate, 21 reordered, 2 late
              dropped   5 denied (198.51.100.9), 2 invalid (not-rtp 2), 0 over bitrate, 0 by the kernel
              jitter    0.412 ms
              stream    SSRC 0x1234abcd, 1 restart
              buffer    4096 KiB

            OUTPUT   PROTOCOL  DESTINATION        STATE        BITRATE    PACKETS  DROPPED  NOTES
            encoder  rtp       198.51.100.7:5000  sending  12.3 Mbit/s  104857583        0  SSRC 0x00c0ffee
            playout  udp       239.10.0.1:5000    error        0 bit/s   52428800      812  ENETUNREACH 812; operator's override: enable by alice since 2026-03-01T08:00:00Z; Hall 2

            CONDITIONS
              major, since 2026-03-01T09:41:07Z: output playout: 239.10.0.1:5000 can't be reached: network is unreachable, 812 packets dropped
                Try `ip route get 239.10.0.1`; it is retried.
              major, since 2026-03-01T09:30:00Z: /etc/mediaconnect/flows.d/news.toml:14:1: unknown key 'destinatoin'; the last good version runs
                Mend the file; `mediaconnectctl check /etc/mediaconnect/flows.d/news.toml` shows all of its faults.
            "#);
    }

    #[test]
    fn the_detail_of_a_stopped_flow_says_who_stopped_it() {
        insta::assert_snapshot!(detail(&sample::flow("test-card"), PLAIN), @r#"
            test-card: standby, gather auto
              operator's override: stop by bob since 2026-03-01T07:00:00Z

            CONDITIONS
              info, since 2026-03-01T07:00:00Z: stopped by bob since 2026-03-01T07:00:00Z
                Start it with `mediaconnectctl start test-card`.
            "#);
    }

    #[test]
    fn flows_of_several_sources_tell_which_is_on_air_or_how_many_are_merged() {
        insta::assert_snapshot!(overview(&sample::status(), &sample::air(), PLAIN), @r#"
            mediaconnectd 0.1.0, up 3days 4h; 3 flows, 2 active, 1 standby, 1 with a rejected file
            configuration: generation 12, last reload 2026-03-01T09:30:00Z, not all accepted: see mediaconnectctl check
              major, since 2026-03-01T09:30:00Z: [http] can't listen on 10.0.0.9:9740: cannot assign requested address
                See who holds port 9740 with `ss -ltnp`, or change `listen` in [http]; it is retried.

            FLOW    STATE   ON AIR               BITRATE  PACKETS  LOST  OUTPUTS  WORST CONDITION
            backup  active  b receiving      20.0 Mbit/s    17000     2      1/1  major: standby source a: lost for 1m 1s, 20.0 Mbit/s before
            twin    active  2/2 legs merged  20.0 Mbit/s     9000     1      1/1
            "#);
    }

    #[test]
    fn the_detail_of_a_failover_says_what_is_on_air_and_why() {
        insta::assert_snapshot!(detail(&sample::flow("backup"), PLAIN), @r#"
            backup: active, gather 0s
              operator's override: switch b by alice since 2026-03-01T08:00:00Z
              failover: b on air, primary a, switched 3 times, last at 2026-03-01T07:59:00Z from a to b (silence, gap 512.25 ms)

            source a (rtp): lost, 0 bit/s
              bind      :5000
              from      10.0.0.5:4000 since 2026-02-26T05:24:01Z
              packets   8000
              lost      0, recovered 0, unrecovered 0
              order     0 duplicate, 0 reordered, 0 late
              dropped   0 denied, 0 invalid, 0 over bitrate, 0 by the kernel
              jitter    0.400 ms
              stream    SSRC 0x00000001, 0 restarts
              buffer    4096 KiB

            source b (rtp-fec, on air): receiving, 20.0 Mbit/s
              bind      :5100
              from      10.0.1.5:4000 since 2026-02-26T05:24:01Z
              packets   9000
              lost      12, recovered 10, unrecovered 2
              fec       10 x 5; columns 1800 (3 lost, 0 invalid), rows 900 (1 lost, 0 invalid); recovered 8 by column, 2 by row
              order     0 duplicate, 0 reordered, 0 late
              dropped   0 denied, 0 invalid, 0 over bitrate, 0 by the kernel
              jitter    0.400 ms
              stream    SSRC 0x00000001, 0 restarts
              buffer    4096 KiB

            OUTPUT  PROTOCOL  DESTINATION    STATE        BITRATE  PACKETS  DROPPED  NOTES
            a       rtp       10.0.0.9:6000  sending  20.0 Mbit/s     9000        0  SSRC 0x00c0ffee

            CONDITIONS
              major, since 2026-03-01T07:59:01Z: standby source a: lost for 1m 1s, 20.0 Mbit/s before
                The flow goes on without it. Check the sender and the network to it.
              minor, since 2026-03-01T07:59:00Z: source b is on air instead of the primary a since 2026-03-01T07:59:00Z: a was silent (gap 512 ms)
                `mediaconnectctl switch backup --clear` lets the flow choose by itself again.
              info, since 2026-03-01T08:00:00Z: source b was put on air by alice at 2026-03-01T08:00:00Z
                It stays there, also when it is silent, until `mediaconnectctl switch backup --clear`.
            "#);
    }

    #[test]
    fn the_detail_of_a_merge_has_the_flow_and_its_legs() {
        insta::assert_snapshot!(detail(&sample::flow("twin"), PLAIN), @r#"
            twin: active, gather 0s
              merged from 2 legs, 12.5 ms apart, class B: 9000 packets, 1 lost, 20 brought by another leg, delay 200 ms

            source a (rtp, on air): receiving, 20.0 Mbit/s
              bind      239.1.1.1:5000
              from      10.0.0.5:4000 since 2026-02-26T05:24:01Z
              packets   8990
              lost      10, recovered 9, unrecovered 1
              leg       8900 first, 11 only here, 0 late, 0 different; skew -12.5 ms (-14 to -11)
              order     0 duplicate, 0 reordered, 0 late
              dropped   0 denied, 0 invalid, 0 over bitrate, 0 by the kernel
              jitter    0.400 ms
              stream    SSRC 0x00000001, 0 restarts
              buffer    4096 KiB

            source b (rtp, on air): receiving, 20.0 Mbit/s
              bind      239.2.1.1:5000
              from      10.0.1.5:4000 since 2026-02-26T05:24:01Z
              packets   8985
              lost      13, recovered 12, unrecovered 1
              leg       90 first, 9 only here, 2 late, 0 different; skew 12.5 ms (11 to 14)
              order     0 duplicate, 0 reordered, 2 late
              dropped   0 denied, 0 invalid, 0 over bitrate, 0 by the kernel
              jitter    0.400 ms
              stream    SSRC 0x00000001, 0 restarts
              buffer    4096 KiB

            OUTPUT  PROTOCOL  DESTINATION    STATE        BITRATE  PACKETS  DROPPED  NOTES
            a       rtp       10.0.0.9:6000  sending  20.0 Mbit/s     9000        0  SSRC 0x00c0ffee
            "#);
    }

    #[test]
    fn colours_mark_states_and_nothing_else_differs() {
        let colour = overview(&sample::status(), &sample::flows(), Style { colour: true });
        assert!(colour.contains("\x1b[32mvenue-a receiving\x1b[0m"), "{colour}");
        let mut stripped = colour;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, overview(&sample::status(), &sample::flows(), PLAIN));
    }
}
