//! Content encryption on the way through (DVB-CISSA, [`crate::proto::cissa`]). What is changed is a copy: other outputs
//! send the packets as they came.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::egress::MediaPacket;
use super::reuse;
use super::stats::{Figure, Moment};
use crate::config::plan::{ContentEncryption, ContentKeys};
use crate::config::secrets::KeyFile;
use crate::proto::cissa::{Descrambler, Key, Parity, Scrambler};
use crate::proto::mpegts::psi::Psi;
use crate::time::Instant;

/// What an output sends: in clear, or by one of the flow's encryptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Variant {
    /// As it is.
    #[default]
    Clear,
    /// By the encryption of this number.
    Encrypted(u32),
}

/// The figures of an encryption.
#[derive(Debug, Default)]
pub struct EncryptionStats {
    /// Transport-stream packets encrypted.
    pub scrambled: Figure,
    /// Transport-stream packets that were scrambled already.
    pub already: Figure,
    /// Transport-stream packets that no table names: null packets left in their place.
    pub withheld: Figure,
    /// The key in use: 0 even, 1 odd.
    pub parity: Figure,
    /// When something was last encrypted.
    pub last_scrambled: Moment,
    /// When something was last withheld.
    pub last_withheld: Moment,
}

/// The figures of a decryption.
#[derive(Debug, Default)]
pub struct DecryptionStats {
    /// Transport-stream packets decrypted.
    pub descrambled: Figure,
    /// Transport-stream packets of a parity for which there is no key.
    pub without_key: Figure,
    /// Which keys are wrong ones, by parity: 1 for even, 2 for odd.
    pub wrong: Figure,
}

/// Datagrams that are changed; memory to be used again.
#[derive(Debug, Default)]
struct Copies {
    bytes: Vec<u8>,
    media: Vec<MediaPacket<'static>>,
}

impl Copies {
    /// Copy packets, change their payloads, and hand them on.
    fn of(
        &mut self,
        packets: &[MediaPacket<'_>],
        mut change: impl FnMut(&mut [u8]),
        then: impl FnOnce(&mut [MediaPacket<'_>]),
    ) {
        self.bytes.clear();
        packets.iter().for_each(|packet| self.bytes.extend_from_slice(packet.layout().0));
        let mut rest = &mut self.bytes[..];
        for packet in packets {
            let (bytes, (start, length)) = packet.layout();
            let (copy, after) = rest.split_at_mut(bytes.len());
            change(&mut copy[start..][..length]);
            rest = after;
        }
        let mut copies = reuse(std::mem::take(&mut self.media));
        let mut rest = &self.bytes[..];
        for packet in packets {
            let (bytes, (start, length)) = packet.layout();
            let (datagram, after) = rest.split_at(bytes.len());
            copies.push(MediaPacket { payload: &datagram[start..][..length], datagram, ..*packet });
            rest = after;
        }
        then(&mut copies);
        self.media = reuse(copies);
    }
}

/// The 16 bytes of a key; `None`: only the daemon may read it.
fn key(file: &KeyFile) -> Option<&Key> {
    file.secret().bytes().try_into().ok()
}

/// What outputs with the same `encryption` send.
pub(super) struct Encryption {
    config: ContentEncryption,
    scrambler: Scrambler,
    /// When the other key's turn is.
    turn: Option<Instant>,
    copies: Copies,
    stats: Arc<EncryptionStats>,
}

impl Encryption {
    pub(super) fn new(config: ContentEncryption, stats: Arc<EncryptionStats>, now: Instant) -> Self {
        let ContentKeys { even, odd } = &config.keys;
        let scrambler = Scrambler::new(key(even), odd.as_ref().and_then(key));
        let turn = odd.as_ref().map(|_| now + config.period);
        Self { config, scrambler, turn, copies: Copies::default(), stats }
    }

    pub(super) const fn config(&self) -> &ContentEncryption {
        &self.config
    }

    /// What it knows of the tables of the flow's stream.
    pub(super) const fn tables(&self) -> &Psi {
        self.scrambler.tables()
    }

    /// Go on with what is known of the tables already: nothing is withheld until they come again.
    pub(super) fn set_tables(&mut self, tables: Psi) {
        self.scrambler.set_tables(tables);
    }

    /// The files hold other keys: they count from the next packet on.
    pub(super) fn set_keys(&mut self, keys: ContentKeys) {
        self.scrambler.set_key(Parity::Even, key(&keys.even));
        self.scrambler.set_key(Parity::Odd, keys.odd.as_ref().and_then(key));
        self.config.keys = keys;
    }

    /// Encrypt packets, and hand them on.
    pub(super) fn packets(
        &mut self,
        packets: &[MediaPacket<'_>],
        now: Instant,
        then: impl FnOnce(&mut [MediaPacket<'_>]),
    ) {
        let Self { config, scrambler, turn, copies, stats } = self;
        if turn.is_some_and(|turn| turn <= now) {
            scrambler.set_parity(match scrambler.parity() {
                Parity::Even => Parity::Odd,
                Parity::Odd => Parity::Even,
            });
            *turn = Some(now + config.period);
        }
        copies.of(packets, |payload| scrambler.scramble(payload, now), then);
        let before = (stats.scrambled.value(), stats.withheld.value());
        let counters = scrambler.counters();
        if counters.scrambled > before.0 {
            stats.last_scrambled.set(now);
        }
        if counters.withheld > before.1 {
            stats.last_withheld.set(now);
        }
        stats.scrambled.set(counters.scrambled);
        stats.already.set(counters.already);
        stats.withheld.set(counters.withheld);
        stats.parity.set(scrambler.parity() as u64);
    }
}

/// The decryption of what comes from a source, or of what a merge gives.
pub(super) struct Decryption {
    descrambler: Descrambler,
    copies: Copies,
}

impl Decryption {
    pub(super) fn new(keys: &ContentKeys) -> Self {
        let descrambler = Descrambler::new(key(&keys.even), keys.odd.as_ref().and_then(key));
        Self { descrambler, copies: Copies::default() }
    }

    /// Other keys count from the next packet on.
    pub(super) fn set_keys(&mut self, keys: &ContentKeys) {
        self.descrambler.set_key(Parity::Even, key(&keys.even));
        self.descrambler.set_key(Parity::Odd, keys.odd.as_ref().and_then(key));
    }

    /// Decrypt packets, and hand them on.
    pub(super) fn packets(
        &mut self,
        packets: &[MediaPacket<'_>],
        stats: &DecryptionStats,
        then: impl FnOnce(&mut [MediaPacket<'_>]),
    ) {
        let Self { descrambler, copies } = self;
        copies.of(packets, |payload| descrambler.descramble(payload), then);
        let counters = descrambler.counters();
        stats.descrambled.set(counters.descrambled);
        stats.without_key.set(counters.without_key);
        let wrong = [Parity::Even, Parity::Odd].map(|parity| u64::from(descrambler.is_wrong(parity)) << parity as u64);
        stats.wrong.set(wrong[0] | wrong[1]);
    }
}
