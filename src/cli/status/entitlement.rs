//! The entitlements of a flow, and the port at which subscribers call.

use std::fmt::Write;

use super::srt;
use crate::cli::text::{Paint, Style, clean, word};
use crate::observe::status::{AccountDoc, EntitlementDoc, EntitlementState, EntitlementsDoc};
use crate::observe::text::{count, rate};

/// The port, in a line.
pub(super) fn port(out: &mut String, doc: &EntitlementsDoc, style: Style) {
    let EntitlementsDoc { bind, open, subscribers, sessions, calls_refused, .. } = doc;
    let open = if *open { String::new() } else { style.paint(Paint::Bad, " (not open)") };
    let (subscribers, sessions) = (count(*subscribers, "subscriber"), count(*sessions, "session"));
    let refused = count(*calls_refused, "call");
    let _ = writeln!(out, "entitlements: {}{open}, {subscribers}, {sessions}, {refused} refused", clean(bind));
}

/// An entitlement: who is entitled and what they got, then the sessions.
pub(super) fn detail(out: &mut String, name: &str, doc: &EntitlementDoc, style: Style) {
    let paint = match doc.state {
        EntitlementState::Connected => Paint::Good,
        EntitlementState::Idle | EntitlementState::Disabled => Paint::Faint,
        EntitlementState::Expired => Paint::Warn,
        EntitlementState::Unreachable => Paint::Bad,
    };
    let title = style.paint(Paint::Strong, &format!("entitlement {name}"));
    let (state, most) = (style.paint(paint, &word(doc.state)), doc.max_sessions);
    let _ = writeln!(out, "\n{title} ({}/{most} sessions): {state}, {}", doc.peers.len(), rate(doc.bitrate_bps));
    if !doc.description.is_empty() {
        srt::line(out, "about", std::slice::from_ref(&doc.description));
    }
    if let Some(expires) = &doc.expires {
        srt::line(out, "expires", std::slice::from_ref(expires));
    }
    for (subscriber, account) in &doc.subscribers {
        let AccountDoc { enabled, sessions, seconds, bytes, today_p95_bps } = account;
        let mut items = vec![count(*sessions, "session"), format!("{seconds} s"), format!("{bytes} bytes")];
        items.extend(today_p95_bps.map(|bps| format!("95th percentile today {}", rate(bps))));
        if !enabled {
            items.push("no such subscriber, or disabled".to_owned());
        }
        srt::line(out, &format!("for {subscriber}"), &items);
    }
    srt::peers(out, &doc.peers);
    srt::calls(out, Some(doc.disconnections), Some(doc.calls_refused), &doc.refused_by_reason, &doc.refused);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false };

    #[test]
    fn an_entitlement_is_told_with_what_its_subscribers_got() {
        let doc = serde_json::json!({
            "state": "connected", "description": "Affiliates", "max-sessions": 2, "expires": "2026-12-31T23:59:00Z",
            "subscribers": {
                "acme": { "enabled": true, "sessions": 1, "seconds": 61, "bytes": 30_000_000, "today-p95-bps": 4_000_000 },
                "gone": { "enabled": false, "sessions": 0, "seconds": 0, "bytes": 0 },
            },
            "peers": [{ "address": "203.0.113.7:4000", "since": "2026-11-28T07:00:00Z", "number": 5, "subscriber": "acme" }],
            "bitrate-bps": 4_000_000, "packets": 4, "bytes": 5264, "packets-dropped": 0, "packets-retransmitted": 1,
            "packets-lost": 1, "disconnections": 3, "calls-refused": 2, "refused-by-reason": { "expired": 2 }
        });
        let mut out = String::new();
        detail(&mut out, "main", &serde_json::from_value(doc).unwrap(), PLAIN);
        insta::assert_snapshot!(out, @r"

            entitlement main (1/2 sessions): connected, 4.00 Mbit/s
              about     Affiliates
              expires   2026-12-31T23:59:00Z
              for acme  1 session, 61 s, 30000000 bytes, 95th percentile today 4.00 Mbit/s
              for gone  0 sessions, 0 s, 0 bytes, no such subscriber, or disabled
              from      203.0.113.7:4000 since 2026-11-28T07:00:00Z
              ended     3 connections
              refused   2 calls (expired 2)
            ");
    }

    #[test]
    fn the_port_is_a_line() {
        let doc =
            EntitlementsDoc { bind: ":7000".into(), subscribers: 3, calls_refused: 1, ..EntitlementsDoc::default() };
        let mut out = String::new();
        port(&mut out, &doc, PLAIN);
        assert_eq!(out, "entitlements: :7000 (not open), 3 subscribers, 0 sessions, 1 call refused\n");
    }
}
