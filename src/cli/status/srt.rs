//! The connections of a source or output by SRT, a line or two each.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::cli::text::{clean, word};
use crate::observe::status::{KeyStateDoc, OutputDoc, PeerDoc, RefusedDoc, SrtDoc};
use crate::observe::text::{count, rate};

/// Lines are no longer than this, unless one word is.
const WIDTH: usize = 100;
/// Where values begin.
const INDENT: usize = 12;
/// Of a stream ID, which may have 512.
const STREAM_ID: usize = 48;

/// A line with its key; what is too long goes on below.
pub(super) fn line(out: &mut String, key: &str, items: &[String]) {
    let mut width = INDENT.max(key.chars().count() + 3);
    let _ = write!(out, "  {key:<9}");
    for (n, item) in items.iter().enumerate() {
        let (item, end) = (clean(item), if n + 1 < items.len() { "," } else { "" });
        let length = item.chars().count() + end.len() + 1;
        if n > 0 && width + length > WIDTH {
            let _ = write!(out, "\n{:>1$}", "", INDENT - 1);
            width = INDENT;
        }
        let _ = write!(out, " {item}{end}");
        width += length;
    }
    out.push('\n');
}

/// Each connection: its number and address as `disconnect` wants them, what was agreed on, and how it goes.
pub(super) fn peers(out: &mut String, peers: &[PeerDoc]) {
    for peer in peers {
        let Some(srt) = &peer.srt else {
            line(out, "from", &[format!("{} since {}", peer.address, peer.since)]);
            continue;
        };
        let number = peer.number.map_or_else(|| "peer".to_owned(), |number| format!("peer {number}"));
        line(out, &number, &agreed(peer, srt));
        line(out, "", &figures(srt));
    }
}

fn agreed(peer: &PeerDoc, srt: &SrtDoc) -> Vec<String> {
    let mut items = vec![format!("{} since {}", peer.address, peer.since), format!("SRT {}", srt.version)];
    items.push(match (srt.cipher.as_str(), &srt.passphrase) {
        ("none", _) => "in clear".to_owned(),
        (cipher, Some(passphrase)) => format!("{cipher} ({passphrase})"),
        (cipher, None) => cipher.to_owned(),
    });
    items.extend(srt.stream_id.as_deref().map(stream_id));
    items
}

fn figures(srt: &SrtDoc) -> Vec<String> {
    let mut items = vec![
        format!("latency {} ms", millis(srt.latency_ms)),
        srt.rtt_ms.map_or_else(|| "RTT not measured".to_owned(), |rtt| format!("RTT {} ms", millis(rtt))),
        rate(srt.rate_bps),
        format!("buffer {} ms", millis(srt.buffer_ms)),
        format!("lost {}", srt.packets_lost),
        format!("resent {}", srt.packets_retransmitted),
        format!("dropped {}", srt.packets_dropped),
    ];
    items.extend(srt.packets_undecrypted.filter(|n| *n > 0).map(|n| format!("undecrypted {n}")));
    items.extend((srt.send_errors > 0).then(|| format!("send errors {}", srt.send_errors)));
    items.extend((srt.key_state == KeyStateDoc::Unconfirmed).then(|| "next key not confirmed".to_owned()));
    items
}

/// With as many decimals as say something.
pub(super) fn millis(ms: f64) -> String {
    let decimals = match ms {
        ms if ms < 10.0 => 2,
        ms if ms < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{ms:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How many connections ended, and how many calls were turned away and why; then the last who were turned away.
pub(super) fn calls(
    out: &mut String,
    disconnections: Option<u64>,
    refused: Option<u64>,
    by_reason: &BTreeMap<String, u64>,
    last: &[RefusedDoc],
) {
    if let Some(n) = disconnections.filter(|n| *n > 0) {
        line(out, "ended", &[count(n, "connection")]);
    }
    if let Some(n) = refused.filter(|n| *n > 0) {
        let why: Vec<String> = by_reason.iter().map(|(why, n)| format!("{why} {n}")).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
        line(out, "refused", &[format!("{}{why}", count(n, "call"))]);
    }
    for RefusedDoc { address, reason, stream_id, count, last, .. } in last {
        let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
        let mut items = vec![format!("{address} {times}"), format!("last {last}: {reason}")];
        items.extend(stream_id.as_deref().map(self::stream_id));
        line(out, "", &items);
    }
}

/// As it was sent, or its beginning.
fn stream_id(id: &str) -> String {
    let short: String = id.chars().take(STREAM_ID).collect();
    let end = if short.len() < id.len() { "..." } else { "" };
    format!("stream ID {short:?}{end}")
}

/// How many are connected, of how many that may; `None`: nobody calls.
pub(super) fn callers(o: &OutputDoc) -> Option<String> {
    o.max_callers.map(|most| format!("{}/{most} callers", o.peers.len()))
}

/// An output by SRT; nothing of one that nobody has ever been connected to or turned away from.
pub(super) fn output(out: &mut String, title: &str, o: &OutputDoc) {
    let by_srt = o.peers.iter().any(|peer| peer.srt.is_some());
    if !by_srt && o.refused.is_empty() && o.disconnections.unwrap_or(0) == 0 {
        return;
    }
    let of = callers(o).map_or_else(String::new, |callers| format!(", {callers}"));
    let _ = writeln!(out, "\n{title} ({}{of}): {}", clean(&o.protocol), word(o.state));
    peers(out, &o.peers);
    calls(out, o.disconnections, o.calls_refused, &o.refused_by_reason, &o.refused);
}
