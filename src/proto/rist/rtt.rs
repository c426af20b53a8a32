//! The round trip of a leg: by echoes (TR-06-1:2020, section 5.2.6), by the reports of a receiver (RFC 3550, section
//! 6.4.1; RFC 3611, section 4.5), and where a peer has neither, by how long a request takes to be answered.

use super::clock::{Clock, MILLISECOND, SECOND, Tick, middle, ntp_nanos};
use super::nack::NAME;
use crate::proto::rtp::rtcp::{Packet, write_app};
use serde::{Deserialize, Serialize};

/// Subtype of an echo that asks, and of one that answers.
const ECHO: (u8, u8) = (2, 3);
/// No round trip is longer: what says so is not believed.
const LONGEST: i64 = 10 * SECOND;
/// Times of reports that are remembered.
const REPORTS: usize = 16;

/// The estimate.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Rtt {
    /// Smoothed, and its mean deviation. `None`: never measured.
    value: Option<(i64, i64)>,
    /// It comes from echoes: nothing else counts any more.
    echoed: bool,
}

impl Rtt {
    /// A sample from an echo.
    pub(super) fn echo(&mut self, ns: i64) {
        if !self.echoed {
            *self = Self { value: None, echoed: true };
        }
        self.smooth(ns);
    }

    /// A sample of another kind.
    pub(super) fn other(&mut self, ns: i64) {
        if !self.echoed {
            self.smooth(ns);
        }
    }

    fn smooth(&mut self, ns: i64) {
        if !(0..LONGEST).contains(&ns) {
            return;
        }
        self.value = Some(match self.value {
            None => (ns, ns / 2),
            Some((mean, deviation)) => (mean + (ns - mean) / 8, deviation + ((ns - mean).abs() - deviation) / 4),
        });
    }

    /// The round trip in nanoseconds.
    pub(super) const fn get(&self) -> Option<i64> {
        match self.value {
            Some((mean, _)) => Some(mean),
            None => None,
        }
    }

    /// How long to wait for an answer before it is taken for lost. `unknown`: where it was never measured.
    pub(super) fn patience(&self, unknown: i64) -> i64 {
        self.value.map_or(unknown, |(mean, deviation)| {
            // Both ends look only every few milliseconds.
            mean + (mean / 10).max(4 * deviation).clamp(10 * MILLISECOND, 10 * MILLISECOND + mean / 4)
        })
    }
}

/// An echo that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Echo {
    /// Who asks: librist takes only an answer with its own SSRC.
    ssrc: u32,
    /// Its time, which goes back as it is.
    time: [u8; 8],
    came: Tick,
}

/// What an echo in a packet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Answer it.
    Asked(Echo),
    /// Ours was answered: the round trip.
    Answered(i64),
}

/// Read an echo. `ssrc`: ours.
pub(super) fn hear(packet: &Packet<'_>, ssrc: u32, clock: &Clock, arrival: Tick) -> Option<Heard> {
    let &Packet::App { subtype, ssrc: from, name: NAME, data } = packet else { return None };
    let (time, rest) = data.split_first_chunk::<8>()?;
    match subtype {
        s if s == ECHO.0 => Some(Heard::Asked(Echo { ssrc: from, time: *time, came: arrival })),
        s if s == ECHO.1 && from == ssrc => {
            let delay = rest.first_chunk().map_or(0, |delay| i64::from(u32::from_be_bytes(*delay)) * 1000);
            let elapsed = clock.ntp(arrival).checked_sub(u64::from_be_bytes(*time))?;
            // What is beyond the longest may overflow nothing.
            let elapsed = if elapsed >> 32 < 3600 { ntp_nanos(elapsed) } else { 3600 * SECOND };
            Some(Heard::Answered((elapsed - delay).max(0)))
        }
        _ => None,
    }
}

/// Append an echo that asks.
pub(super) fn ask(ssrc: u32, clock: &Clock, now: Tick, out: &mut Vec<u8>) {
    let ntp = clock.ntp(now);
    write_app(ECHO.0, ssrc, NAME, &[(ntp >> 32) as u32, (ntp & 0xFFFF_FFFF) as u32, 0], out);
}

/// Append an answer.
pub(super) fn answer(echo: &Echo, now: Tick, out: &mut Vec<u8>) {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = echo.time;
    let delay = u32::try_from(now.since(echo.came).max(0) / 1000).unwrap_or(u32::MAX);
    let words = [u32::from_be_bytes([t0, t1, t2, t3]), u32::from_be_bytes([t4, t5, t6, t7]), delay];
    write_app(ECHO.1, echo.ssrc, NAME, &words, out);
}

/// The times of the reports sent lately, by which their answers are known.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Reports {
    sent: [(u32, Tick); REPORTS],
    next: usize,
}

impl Reports {
    /// A report with this time of NTP leaves.
    pub(super) fn sent(&mut self, ntp: u64, now: Tick) {
        self.sent[self.next % REPORTS] = (middle(ntp), now);
        self.next = (self.next + 1) % REPORTS;
    }

    /// The round trip of an answer: which report it names, and how long that one lay at the peer, in 1/65,536 s.
    pub(super) fn answered(&self, last: u32, delay: u32, arrival: Tick) -> Option<i64> {
        let &(_, sent) = self.sent.iter().find(|(middle, _)| last != 0 && *middle == last)?;
        let delay = ntp_nanos(u64::from(delay) << 16);
        Some(arrival.since(sent) - delay).filter(|ns| (0..LONGEST).contains(ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtp::rtcp::Compound;
    use crate::time::Instant;

    fn heard(bytes: &[u8], ssrc: u32, clock: &Clock, at: i64) -> Option<Heard> {
        let packet = Compound::parse(bytes).unwrap().packets().next().unwrap();
        hear(&packet, ssrc, clock, Tick(at))
    }

    #[test]
    fn an_echo_measures_the_path_without_the_time_it_lay_at_the_peer() {
        let (ours, theirs) = (Clock::new(Instant::now(), 7 << 40), Clock::new(Instant::now(), 3));
        let mut request = Vec::new();
        ask(0x10, &ours, Tick(SECOND), &mut request);
        let Some(Heard::Asked(echo)) = heard(&request, 0x99, &theirs, 400) else { panic!("{request:?}") };
        let mut response = Vec::new();
        answer(&echo, Tick(400 + 5 * MILLISECOND), &mut response);
        let answered = |at| heard(&response, 0x10, &ours, at);
        let Some(Heard::Answered(rtt)) = answered(SECOND + 45 * MILLISECOND) else { panic!("{response:?}") };
        assert!((rtt - 40 * MILLISECOND).abs() < 10, "{rtt}");
        assert_eq!(heard(&response, 0x12, &ours, 2 * SECOND), None, "it is for another one");
        assert_eq!(answered(SECOND - 5), None, "before it was sent");
        let mut rtt = Rtt::default();
        let Some(Heard::Answered(late)) = answered(i64::MAX / 2) else { panic!() };
        rtt.echo(late);
        assert_eq!(rtt.get(), None, "that long no path takes");
    }

    #[test]
    fn echoes_outdo_all_other_samples() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.patience(77), 77);
        rtt.other(SECOND);
        assert_eq!(rtt.get(), Some(SECOND));
        rtt.echo(100 * MILLISECOND);
        rtt.other(SECOND);
        assert_eq!(rtt.get(), Some(100 * MILLISECOND));
        (0..100).for_each(|_| rtt.echo(100 * MILLISECOND));
        assert_eq!(rtt.patience(77), 110 * MILLISECOND);
        rtt.echo(-1);
        rtt.echo(i64::MAX);
        assert_eq!(rtt.get(), Some(100 * MILLISECOND));
    }

    #[test]
    fn only_answers_to_reports_that_were_sent_count() {
        let mut reports = Reports::default();
        assert_eq!(reports.answered(0, 0, Tick(0)), None);
        for n in 1..=20_u64 {
            reports.sent(n << 16, Tick(n.cast_signed() * MILLISECOND));
        }
        let delay = super::super::clock::short(5 * MILLISECOND);
        let rtt = reports.answered(20, delay, Tick(65 * MILLISECOND)).unwrap();
        assert!((rtt - 40 * MILLISECOND).abs() < 20_000, "{rtt}");
        assert_eq!(reports.answered(2, 0, Tick(65 * MILLISECOND)), None, "long forgotten");
        assert_eq!(reports.answered(20, u32::MAX, Tick(65 * MILLISECOND)), None);
    }
}
