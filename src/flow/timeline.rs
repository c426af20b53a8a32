//! One time for all that leaves, whatever source it is from.

use crate::time::Instant;
use serde::{Deserialize, Serialize};

use crate::proto::seq::RtpTime;

use super::egress::MediaPacket;

/// Timestamps of the flow: those of the source on air, and over a restart or a switch as much later as time has passed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Timeline {
    rebase: u32,
    last: Option<(Instant, RtpTime)>,
}

impl Timeline {
    /// Put packets that leave at `now` in the flow's time.
    pub(super) fn place(&mut self, packets: &mut [MediaPacket<'_>], now: Instant) {
        for packet in packets {
            if packet.discontinuity
                && let Some((at, last)) = self.last
            {
                let continued = last.add(now.saturating_duration_since(at));
                self.rebase = continued.0.wrapping_sub(packet.timestamp.0);
            }
            packet.timestamp = RtpTime(packet.timestamp.0.wrapping_add(self.rebase));
            self.last = Some((now, packet.timestamp));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_goes_on_over_a_restart_by_what_has_passed() {
        let (start, mut timeline) = (Instant::now(), Timeline::default());
        let mut place = |ms, timestamp, discontinuity| {
            let arrival = start + Duration::from_millis(ms);
            let timestamp = RtpTime(timestamp);
            let mut packets = [MediaPacket { payload: b"", datagram: b"", arrival, timestamp, discontinuity }];
            timeline.place(&mut packets, arrival);
            packets[0].timestamp.0
        };
        // The first packet of all is no restart of anything.
        assert_eq!(place(0, u32::MAX, true), u32::MAX);
        assert_eq!(place(10, 899, false), 899);
        assert_eq!(place(510, 123_456, true), 899 + 45_000);
        assert_eq!(place(520, 123_456 + 900, false), 899 + 45_900);
    }
}
