//! The peer's keys, by their nonces.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::super::clock::{MILLISECOND, SECOND, Tick};
use super::super::psk::{Key, KeyLength, Nonce};
use super::TunnelEvent;

/// Nonces that are known: the present one, and the one before.
const KNOWN: usize = 2;
/// Nonces that were seen and are not known.
const SEEN: usize = 64;
/// How often a nonce was seen is counted up to this.
const MOST_PACKETS: u32 = 1 << 10;
/// Packets with a nonce before it is asked for.
const ENOUGH: u32 = 2;
/// Between two questions.
const PAUSE: i64 = 250 * MILLISECOND;
/// A question that is not answered in this time is asked again, and a nonce that has not come in it is forgotten.
const PATIENCE: i64 = 2 * SECOND;
/// A nonce that has not come for so long is not asked for: its sender may have gone on to the next one.
const LIVELY: i64 = 50 * MILLISECOND;
/// Packets that could not be read with fresh keys, before the passphrase is taken for wrong.
const HOPELESS: u32 = 8;
/// Packets in a row that could not be read with a key, before it is taken for a mistake.
const MISTAKEN: u32 = 64;
/// How long a nonce is not asked for again whose keys were of no use.
const GRUDGE: i64 = 10 * SECOND;
/// Passphrases that are tried.
const MOST_KEYS: usize = 8;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Seen {
    nonce: Nonce,
    length: KeyLength,
    packets: u32,
    /// When it came last.
    last: Tick,
    /// When it was asked for.
    asked: Option<Tick>,
    /// Not before this.
    not_before: Tick,
}

/// A key with which something was read.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    nonce: Nonce,
    key: Key,
    /// Packets in a row that could not be read.
    failures: u32,
}

/// Keys, one for each passphrase, for a nonce with which nothing was read yet.
#[derive(Debug, Serialize, Deserialize)]
struct Fresh {
    nonce: Nonce,
    keys: Vec<Key>,
    failures: u32,
}

/// What came of a packet.
pub(super) enum Tried<T> {
    /// It could be read.
    Read(T),
    /// There is no key for it.
    Unknown,
    /// There is one, and still it makes no sense.
    Garbage,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ReceiveKeys {
    /// The one used last first.
    known: Vec<Known>,
    fresh: Option<Fresh>,
    seen: Vec<Seen>,
    asked: Option<Tick>,
    /// The place of the key that was right, of those provided last.
    right: Option<usize>,
    events: VecDeque<TunnelEvent>,
}

impl ReceiveKeys {
    /// Read a packet with the key of its nonce. `read` tries one: what came out, and whether that shows the key to be right.
    pub(super) fn open<T>(
        &mut self,
        now: Tick,
        nonce: Nonce,
        length: KeyLength,
        mut read: impl FnMut(&Key) -> Option<(T, bool)>,
    ) -> Tried<T> {
        let is_it = |known: &Known| known.nonce == nonce && known.key.length() == length;
        if let Some(at) = self.known.iter().position(is_it) {
            let Some((read, _)) = read(&self.known[at].key) else {
                self.known[at].failures += 1;
                if self.known[at].failures == MISTAKEN {
                    self.known.remove(at);
                }
                return Tried::Garbage;
            };
            self.known[at].failures = 0;
            self.known.swap(0, at);
            return Tried::Read(read);
        }
        if let Some(fresh) = &mut self.fresh
            && fresh.nonce == nonce
        {
            let mut made_sense = false;
            for at in 0..fresh.keys.len() {
                match read(&fresh.keys[at]) {
                    Some((read, true)) => {
                        let key = fresh.keys.swap_remove(at);
                        self.fresh = None;
                        self.right = Some(at);
                        self.seen.retain(|seen| seen.nonce != nonce);
                        self.known.insert(0, Known { nonce, key, failures: 0 });
                        self.known.truncate(KNOWN);
                        return Tried::Read(read);
                    }
                    Some((_, false)) => made_sense = true,
                    None => {}
                }
            }
            if made_sense {
                // Another packet will show which it is.
                return Tried::Unknown;
            }
            fresh.failures += 1;
            if fresh.failures == HOPELESS {
                self.fresh = None;
                self.tell(TunnelEvent::WrongPassphrase);
            }
            return Tried::Garbage;
        }
        self.see(now, nonce, length);
        Tried::Unknown
    }

    /// A packet with a nonce that is not known. Those that come often stay among the seen, whatever else comes (the
    /// algorithm of Misra and Gries); of those that still come, the one that came most often is asked for first. The nonces
    /// before it of a sender that changes it often came more often, and are of no use any more.
    fn see(&mut self, now: Tick, nonce: Nonce, length: KeyLength) {
        let there = self.seen.iter().position(|seen| seen.nonce == nonce && seen.length == length);
        match there {
            Some(at) => {
                let seen = &mut self.seen[at];
                (seen.packets, seen.last) = ((seen.packets + 1).min(MOST_PACKETS), now);
            }
            None if self.seen.len() < SEEN => {
                self.seen.push(Seen { nonce, length, packets: 1, last: now, asked: None, not_before: Tick::LONG_AGO });
            }
            None => {
                // One whose keys are of no use is remembered for as long as that counts.
                self.seen.iter_mut().for_each(|seen| seen.packets = seen.packets.saturating_sub(1));
                let comes = |seen: &Seen| seen.packets > 0 && now.since(seen.last) < PATIENCE;
                self.seen.retain(|seen| comes(seen) || seen.not_before > now);
            }
        }
        if self.asked.is_some_and(|asked| now.since(asked) < PAUSE) {
            return;
        }
        let waits = |seen: &Seen| seen.asked.is_some_and(|asked| now.since(asked) < PATIENCE) || now < seen.not_before;
        let comes = |seen: &Seen| seen.packets >= ENOUGH && now.since(seen.last) < LIVELY;
        let open = self.seen.iter_mut().filter(|seen| comes(seen) && !waits(seen));
        if let Some(seen) = open.max_by_key(|seen| seen.packets) {
            (seen.asked, self.asked) = (Some(now), Some(now));
            let Seen { nonce, length, .. } = *seen;
            self.tell(TunnelEvent::NeedKey { nonce, length });
        }
    }

    /// The place of the key that was right, of those provided last.
    pub(super) const fn right(&self) -> Option<usize> {
        self.right
    }

    /// Keys for a nonce that was asked for.
    pub(super) fn provide(&mut self, nonce: Nonce, mut keys: Vec<Key>) {
        keys.truncate(MOST_KEYS);
        let Some(seen) = self.seen.iter_mut().find(|seen| seen.nonce == nonce && seen.asked.is_some()) else { return };
        seen.not_before = seen.asked.unwrap_or_default().add(GRUDGE);
        // Known only if it was asked for anew.
        self.known.retain(|known| known.nonce != nonce);
        self.fresh = Some(Fresh { nonce, keys, failures: 0 });
    }

    /// Ask anew for the key in use, which stays until others are provided; what was of no use may be of use now.
    pub(super) fn renew(&mut self, now: Tick) {
        (self.fresh, self.asked, self.right) = (None, None, None);
        self.seen.clear();
        self.known.truncate(1);
        if let Some(known) = self.known.first() {
            let (nonce, length) = (known.nonce, known.key.length());
            let not_before = Tick::LONG_AGO;
            self.seen.push(Seen { nonce, length, packets: ENOUGH, last: now, asked: Some(now), not_before });
            self.tell(TunnelEvent::NeedKey { nonce, length });
        }
    }

    fn tell(&mut self, event: TunnelEvent) {
        if self.events.len() < 8 {
            self.events.push_back(event);
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<TunnelEvent> {
        self.events.pop_front()
    }
}
