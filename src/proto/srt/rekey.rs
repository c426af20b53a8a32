//! Stream keys while a connection lasts (draft-sharabayko-srt, section 6.1.6).
//!
//! A sender replaces its key after a number of packets, and some packets before that it announces the next one to the
//! peer: a KMREQ with both, repeated until the peer echoes it. libsrt then switches when the number is reached, whether
//! the peer has the key or not; a peer that has not cannot decrypt anything from there on. Here the sender switches only
//! when the peer has confirmed the key, keeps to the old one until then, and goes on asking. The one thing that cannot
//! wait is a sequence number that comes round under the same key: before that the connection ends.

mod receive;
mod send;

pub(super) use self::receive::{ReceiveKeys, Reply};
pub(super) use self::send::SendKeys;

use super::clock::SECOND;

/// Packets of a key, by default (libsrt's `HAICRYPT_DEF_KM_REFRESH_RATE`).
pub const KM_REFRESH: u32 = 1 << 24;
/// Packets before the switch at which the next key is announced, by default; as many after it the old one stays.
pub const KM_PREANNOUNCE: u32 = 1 << 16;
/// Announcements at a high rate (libsrt's `SRT_MAX_KMRETRY`).
const MOST_TRIES: u32 = 10;
/// Between the later ones.
const SLOW_RETRY: i64 = SECOND;
/// Numbers with the same key: less than the 2^31 after which counters would come round.
const LAST_USE: u64 = (1 << 31) - (1 << 16);
