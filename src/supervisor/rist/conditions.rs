//! What is not as it should be of a source or output by RIST.

use std::time::Duration;

use super::RistOpen;
use crate::config::plan::{RistInput, RistProfile, RistRoute};
use crate::flow::rist::stats::{SourceFigures, TunnelTroubles};
use crate::observe::condition::{Condition, RistTrouble};
use crate::observe::status::SourceState;
use crate::supervisor::sample::SourceSample;
use crate::time::Instant;

/// What happened this long ago is over.
const RECENT: Duration = Duration::from_secs(60);
/// The same of what goes on all the time while it does.
const GOES_ON: Duration = Duration::from_secs(30);
/// RTCP comes ten times a second: so long without any is no accident.
const PATIENCE: Duration = Duration::from_secs(5);
/// With fewer round trips than this, what is lost often does not come in time.
const ROUND_TRIPS: u32 = 4;

/// Tell what is wrong with a source that is open. Whether that says why no media comes.
pub(in crate::supervisor) fn source_conditions(
    name: &str,
    open: &RistOpen,
    plan: &RistInput,
    sample: &SourceSample,
    now: Instant,
    add: &mut dyn FnMut(Condition),
) -> bool {
    let Some(figures) = open.received() else { return false };
    let mut tell = |of| add(Condition::Rist { part: format!("source {name}"), output: false, of });
    // Also when nothing comes any more: what was there before the last media is no reason for that.
    let read_at = figures.senders.media_at;
    let mut explained = false;
    if let Some(packets) = figures.other_profile.since(read_at, GOES_ON, now) {
        tell(RistTrouble::OtherProfile { profile: plan.profile.word(), packets });
        explained = true;
    } else if let Some(trouble) = unread(&figures.tunnel, &plan.profile, read_at, now) {
        tell(trouble);
        explained = true;
    }
    if sample.state == SourceState::Receiving {
        faults(&figures, plan, sample, now).into_iter().for_each(tell);
    }
    explained && sample.state != SourceState::Receiving
}

fn faults(figures: &SourceFigures, plan: &RistInput, sample: &SourceSample, now: Instant) -> Vec<RistTrouble> {
    let (senders, mut all) = (&figures.senders, Vec::new());
    let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
    let media_for = since(figures.media_since);
    // Of what was there before media came, nothing is said.
    let silent_for = senders.control_at.map_or(media_for, |at| since(Some(at)).min(media_for));
    if silent_for >= PATIENCE {
        let port = if matches!(plan.profile, RistProfile::Simple) { plan.bind.port | 1 } else { plan.bind.port };
        all.push(RistTrouble::NoControl { port, since: silent_for });
    }
    if let (Some(packets), Some(rtt)) = (sample.unrecovered.recent(now), senders.rtt) {
        let latency = plan.latency;
        all.push(if latency < rtt * ROUND_TRIPS {
            RistTrouble::LatencyLow { latency, rtt, packets }
        } else {
            RistTrouble::Unrecovered { latency, rtt, packets }
        });
    }
    if figures.stream.clock_unusable {
        all.push(RistTrouble::ClockUnusable);
    }
    all
}

/// What comes through a tunnel and can't be read, unless something was since then.
fn unread(
    tunnel: &TunnelTroubles,
    profile: &RistProfile,
    read_at: Option<Instant>,
    now: Instant,
) -> Option<RistTrouble> {
    if let Some(packets) = tunnel.in_clear.since(read_at, GOES_ON, now) {
        return Some(RistTrouble::InClear { packets });
    }
    if profile.encryption().is_some() {
        // What is only not read yet, for its keys are being derived, is no trouble. Where it is, only some are tried.
        let packets = tunnel.garbage.count() + tunnel.undecrypted.count();
        return tunnel.garbage.since(read_at, GOES_ON, now).map(|_| RistTrouble::WrongPassphrase { packets });
    }
    tunnel.undecrypted.since(read_at, GOES_ON, now).map(|packets| RistTrouble::Encrypted { packets })
}

/// Tell what is wrong with an output that is open, for so long.
pub(in crate::supervisor) fn output_conditions(
    name: &str,
    open: &RistOpen,
    plan: &RistRoute,
    sends: bool,
    (opened, now): (Duration, Instant),
    add: &mut dyn FnMut(Condition),
) {
    let Some(figures) = open.sent() else { return };
    let mut tell = |of| add(Condition::Rist { part: format!("output {name}"), output: true, of });
    let legs = figures.legs.iter().zip(&figures.tunnels).zip(open.legs());
    for ((figures, tunnel), leg) in legs {
        let (Some(figures), Some(leg)) = (figures, leg) else { continue };
        if let Some(trouble) = unread(tunnel, &plan.profile, figures.control_at, now) {
            tell(trouble);
            continue;
        }
        let silent_for = figures.control_at.map_or(opened, |at| now.saturating_duration_since(at));
        if sends && silent_for >= PATIENCE {
            let main = matches!(plan.profile, RistProfile::Main { .. });
            tell(RistTrouble::NoFeedback { destination: leg.address.to_string(), main, since: silent_for });
        }
    }
    if let Some(packets) = figures.gone.since(None, RECENT, now) {
        tell(RistTrouble::HistoryShort { latency: plan.latency, packets });
    }
    if let Some(packets) = figures.over_budget.since(None, RECENT, now) {
        tell(RistTrouble::OverBudget { packets });
    }
}
