//! Sources and outputs by RIST, a line or two each.

use std::fmt::Write;

use super::srt::{line, millis};
use crate::cli::text::{clean, word};
use crate::observe::status::{OutputDoc, RistLegDoc, RistSourceDoc};

fn terms(profile: &str, cipher: &str, latency_ms: f64) -> Vec<String> {
    let cipher = if cipher == "none" { "in clear" } else { cipher };
    vec![format!("{profile} profile"), cipher.to_owned(), format!("latency {} ms", millis(latency_ms))]
}

fn round_trip(rtt_ms: Option<f64>) -> String {
    rtt_ms.map_or_else(|| "RTT not measured".to_owned(), |rtt| format!("RTT {} ms", millis(rtt)))
}

/// What is on if it is not zero.
fn some(what: &str, n: u64) -> Option<String> {
    (n > 0).then(|| format!("{what} {n}"))
}

/// A source.
pub(super) fn source(out: &mut String, r: &RistSourceDoc) {
    let mut items = terms(&r.profile, &r.cipher, r.latency_ms);
    items.extend([
        round_trip(r.rtt_ms),
        format!("senders {}", r.senders),
        format!("buffer {} packets", r.buffer_packets),
    ]);
    line(out, "rist", &items);
    let mut items = vec![format!("asked for {}", r.packets_requested), format!("resent {}", r.packets_retransmitted)];
    items.extend(some("other profile", r.packets_other_profile));
    items.extend(some("no room", r.packets_no_room));
    items.extend(some("send errors", r.send_errors));
    items.extend((!r.clock_usable).then(|| "timestamps not usable".to_owned()));
    line(out, "", &items);
}

/// An output; nothing of one that is sent otherwise.
pub(super) fn output(out: &mut String, title: &str, o: &OutputDoc) {
    let Some(r) = &o.rist else { return };
    let _ = writeln!(out, "\n{title} ({}): {}", clean(&o.protocol), word(o.state));
    let mut items = terms(&r.profile, &r.cipher, r.latency_ms);
    items.push(format!("asked for {}", o.packets_lost.unwrap_or(0)));
    items.push(format!("resent {}", o.packets_retransmitted));
    items.extend(some("not kept", r.packets_gone));
    items.extend(some("beyond the budget", r.packets_over_budget));
    items.extend(some("send errors", r.send_errors));
    line(out, "rist", &items);
    r.legs.iter().for_each(|leg| line(out, "to", &leg_items(leg)));
}

fn leg_items(leg: &RistLegDoc) -> Vec<String> {
    let heard = leg.silent_ms.map_or_else(
        || "nothing heard yet".to_owned(),
        |ms| if ms < 1000.0 { "heard".to_owned() } else { format!("silent for {} s", millis(ms / 1e3)) },
    );
    let mut items =
        vec![leg.address.clone(), heard, round_trip(leg.rtt_ms), format!("resent {}", leg.packets_retransmitted)];
    items.extend(some("undecrypted", leg.packets_undecrypted.unwrap_or(0)));
    items
}
