//! What the appliance brings into connections.

use std::time::Duration;

use crate::io::endpoint::Steering;
use crate::proto::srt::DEFAULT_MSS;
use crate::proto::srt::connection::ConnectionConfig;
use crate::proto::srt::packet::HEADER_LEN;
use crate::proto::srt::rekey::KM_PREANNOUNCE;
use crate::proto::srt::seq::SocketId;
use crate::proto::srt::terms::Terms;
use crate::time::Instant;

/// A socket's number without this many bits is its place at the port; 0 are calls.
pub(super) const PLACE_SHIFT: u32 = 20;
/// The bits of a socket's number that tell calls apart.
pub(super) const CALL_MASK: u32 = (1 << PLACE_SHIFT) - 1;
/// Most threads at a port: two bits of a number must stay 0.
pub(super) const PLACES: u32 = 1 << (30 - PLACE_SHIFT);
/// The number is the last word of a packet's header.
pub(super) const STEERING: Steering = Steering { offset: HEADER_LEN as u32 - 4, shift: PLACE_SHIFT };

/// What a receive buffer has room for, besides the latency's: for jitter, and for a stall of this host.
const MARGIN: Duration = Duration::from_millis(500);
/// Packets a second of 200 Mbit/s.
const PACKETS: u32 = 19_000;
/// Fewest packets: what libsrt has room for.
const FEWEST: u32 = 8192;
/// Most packets: 190 MB.
const MOST: u32 = 1 << 17;

/// Packets for which there is room at a latency.
fn room(latency: Duration) -> u32 {
    let packets = (latency + MARGIN).as_secs_f64() * f64::from(PACKETS);
    // Up to 30 s: far below 2^32.
    (packets as u32).clamp(FEWEST, MOST)
}

/// For a connection at `local` with this least latency, in both directions.
pub(super) fn terms(local: SocketId, latency: Duration, start: Instant) -> Terms {
    Terms {
        local,
        start,
        mss: DEFAULT_MSS,
        flow_window: room(latency),
        receive_latency: latency,
        send_latency: latency,
    }
}

/// For a connection whose latency may be this in the end, and that sends so many packets with one key.
pub(super) fn connection(latency: Duration, km_refresh: u32) -> ConnectionConfig {
    let receive_packets = room(latency);
    ConnectionConfig {
        km_refresh,
        km_preannounce: KM_PREANNOUNCE.min(km_refresh / 4),
        receive_packets,
        receive_bytes: receive_packets as usize * (usize::from(DEFAULT_MSS) + 64),
        // A gather budget's packets leave together: the pace is that of the source.
        train: 256,
        ..ConnectionConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::srt::rekey::KM_REFRESH;

    #[test]
    fn buffers_grow_with_the_latency_up_to_a_bound() {
        let packets = |ms| connection(Duration::from_millis(ms), KM_REFRESH).receive_packets;
        assert_eq!((packets(20), packets(120), packets(2000), packets(30_000)), (9880, 11_780, 47_500, MOST));
        let terms = terms(SocketId(7), Duration::from_millis(120), Instant::now());
        assert_eq!(terms.flow_window, packets(120));
    }
}
