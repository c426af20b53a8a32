//! What a host may choose for a connection.

use std::time::Duration;

use crate::proto::srt::rekey::{KM_PREANNOUNCE, KM_REFRESH};
use crate::proto::srt::send::SendOrder;

/// The bounds and rules of a connection. The defaults are libsrt's, but where they say why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// Packets of the largest receive buffer (`SRTO_RCVBUF`); not less than the flow window that the handshake told the
    /// peer. 32 to 2^24; 8192.
    pub receive_packets: u32,
    /// Bytes of it. It takes what it needs. 12 MiB, what 8192 packets are.
    pub receive_bytes: usize,
    /// A missing packet is reported when so many later ones are there (`SRTO_LOSSMAXTTL`). 0: what was read together is
    /// put into order before anyway.
    pub reorder_tolerance: u32,
    /// After this time of silence the peer is dead (`SRTO_PEERIDLETIMEO`). 5 s. libsrt also waits for 16 expirations of a
    /// timer, which takes longer where the round trip is longer than 300 ms; but a peer speaks at least once a second,
    /// whatever the round trip.
    pub idle_timeout: Duration,
    /// Which data leaves first.
    pub order: SendOrder,
    /// Packets that may be sent again for each hundred that are sent for the first time (`SRTO_OHEADBW`); and besides what
    /// one round trip holds, at once, and 100 packets a second. 100: libsrt has no bound unless one is set, and with its
    /// usual 25 packets stay lost after outages of 150 ms, as simulated, that this repairs.
    pub retransmit_percent: u32,
    /// Bits a second that are sent at most, with headers (`SRTO_MAXBW`). 1 Gbit/s.
    pub max_bandwidth: u64,
    /// Packets that leave in a row before others have their turn. 16.
    pub train: u16,
    /// Packets that are sent with one key (`SRTO_KMREFRESHRATE`). 2^24.
    pub km_refresh: u32,
    /// How many packets before its first use a key is announced, and after its last use is forgotten
    /// (`SRTO_KMPREANNOUNCE`). At most half of [`Self::km_refresh`]; 2^16.
    pub km_preannounce: u32,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            receive_packets: 8192,
            receive_bytes: 12 << 20,
            reorder_tolerance: 0,
            idle_timeout: Duration::from_secs(5),
            order: SendOrder::default(),
            retransmit_percent: 100,
            max_bandwidth: 1_000_000_000,
            train: 16,
            km_refresh: KM_REFRESH,
            km_preannounce: KM_PREANNOUNCE,
        }
    }
}
