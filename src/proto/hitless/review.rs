//! What is done as time passes: the delay follows the window, and once a second: are the legs identical, which one leads, how much memory is needed.

use super::leg::{Home, Leg};
use super::{LegId, MOST_EVENTS, MergeEvent, Merger};

/// The delay moves by this part of the time that passes.
const SLEW: i64 = 50;
/// After a change of the leading leg the delay is at least this, or the window if that is less.
const LEAST_DELAY: i64 = 10_000_000;
/// A leg leads when it comes so much before the one that led, or an eighth of the window if that is less.
const LEAD: i64 = 5_000_000;
/// How often copies are judged, leaders chosen and memory trimmed.
const SECOND: i64 = 1_000_000_000;

impl Merger {
    /// Move the delay on, and do what is done every second.
    pub(super) fn pass(&mut self, at: i64) {
        let elapsed = at - self.now;
        if elapsed <= 0 {
            return;
        }
        self.now = at;
        let lead = self.legs[self.leader].as_ref().map_or(0, |leg| leg.lag);
        let (target, most) = (self.window + lead, elapsed / SLEW);
        if elapsed > self.window.max(SECOND) {
            // Nothing is held any more.
            self.delay = target;
        }
        self.delay += (target - self.delay).clamp(-most, most);
        if at >= self.next_second {
            self.next_second = at + SECOND;
            self.end_second();
        }
    }

    fn end_second(&mut self) {
        let now = self.now;
        let mut differ = false;
        for leg in self.legs.iter_mut().flatten() {
            differ |= leg.end_second() && leg.home == Home::Current;
        }
        if differ {
            self.fall_back();
        }
        let alive = self.legs.iter().flatten().any(|leg| leg.active(now));
        for number in 0..self.legs.len() {
            let Some(leg) = &mut self.legs[number] else { continue };
            let leg_id = LegId(number as u8);
            let foreign = leg.foreign_since.is_some_and(|since| now - since > self.window + SECOND);
            if leg.aside && leg.clean() {
                leg.take_back();
                self.push_event(MergeEvent::LegRejoined { leg: leg_id });
            } else if !leg.aside && leg.home != Home::Current && foreign && leg.sends(now) && alive {
                leg.put_aside();
                self.push_event(MergeEvent::LegsNotIdentical { leg: leg_id });
            }
        }
        self.choose_leader();
        self.memory.trim();
        for epoch in self.current.iter_mut().chain(&mut self.pending) {
            let needed = epoch.entries.len() * 2 + 1024;
            if epoch.entries.capacity() > needed * 2 {
                epoch.entries.shrink_to(needed);
            }
        }
    }

    /// The legs are not identical: keep the one that lost least lately, and set the others aside.
    fn fall_back(&mut self) {
        let now = self.now;
        let members = self.legs.iter().enumerate().filter_map(|(number, leg)| Some((number, leg.as_ref()?)));
        let rank = |leg: &Leg| (leg.lost_lately, u64::MAX - leg.counters.first);
        let best = members.filter(|(_, leg)| leg.active(now)).min_by_key(|(_, leg)| rank(leg));
        let Some(best) = best.map(|(number, _)| number) else { return };
        for number in (0..self.legs.len()).filter(|number| *number != best) {
            let Some(leg) = self.legs[number].as_mut().filter(|leg| leg.home == Home::Current) else { continue };
            leg.put_aside();
            self.push_event(MergeEvent::LegsNotIdentical { leg: LegId(number as u8) });
        }
        self.choose_leader();
    }

    /// A leg that is set aside sends: whether it is needed, as the one kept is silent.
    pub(super) fn rescue(&mut self, number: usize, at: i64) -> bool {
        if self.current.as_ref().is_some_and(|epoch| epoch.silent_from() > at) {
            return false;
        }
        if let Some(leg) = &mut self.legs[number] {
            leg.take_back();
        }
        self.push_event(MergeEvent::LegRejoined { leg: LegId(number as u8) });
        true
    }

    /// The leading leg is the active one that lags least; it changes only when it is clear that another comes earlier.
    pub(super) fn choose_leader(&mut self) {
        let now = self.now;
        let lag = |leg: &Option<Leg>| leg.as_ref().filter(|leg| leg.active(now)).map(|leg| leg.lag);
        let least = self.legs.iter().enumerate().filter_map(|(number, leg)| Some((lag(leg)?, number))).min();
        let Some((least, number)) = least else { return };
        if lag(&self.legs[self.leader]).is_some_and(|led| led - least <= LEAD.min(self.window / 8)) {
            return;
        }
        self.leader = number;
        self.delay = self.delay.max(least + LEAST_DELAY.min(self.window));
    }

    fn push_event(&mut self, event: MergeEvent) {
        if self.events.len() < MOST_EVENTS {
            self.events.push_back(event);
        }
    }
}
