//! The keys of what we receive.

use std::collections::VecDeque;

use crate::proto::srt::clock::{SECOND, Tick};
use crate::proto::srt::crypto::{Kek, StreamKeys, UnwrapError};
use crate::proto::srt::km::{KeyLength, KeyMaterial, KmState, Salt};
use crate::proto::srt::packet::Key;
use crate::proto::srt::window::ExtSeq;

/// Key material that is remembered: a message that comes again later than this many others was recorded, and is not the
/// peer's.
const REMEMBERED: usize = 8;
/// A key encryption key is asked for this often at most: deriving it is work.
const LEAST_BETWEEN: i64 = SECOND;
/// Key material of two keys of 32 bytes, with salt and header: longer ones are none.
const LONGEST: usize = 16 + 16 + 8 + 64;

/// The keys of what we receive.
pub(in crate::proto::srt) struct ReceiveKeys {
    keys: StreamKeys,
    /// The keys before, for packets before this one: a key that is announced takes the place of one that packets may still
    /// be sent again with.
    older: Option<(StreamKeys, ExtSeq)>,
    kek: Kek,
    /// The first 8 bytes of the wrapped keys of the last messages, which depend on all the rest; the last one first.
    seen: VecDeque<[u8; 8]>,
    /// A message that waits for its key encryption key.
    waiting: Option<Vec<u8>>,
    asked: Option<Tick>,
    /// The key that the newest packets have, and since which packet.
    current: Key,
    since: ExtSeq,
    /// The other key is still that of the packets before.
    lingers: bool,
    /// Packets after which it is forgotten.
    keep: u64,
    refreshes: u64,
}

/// What a KMREQ comes to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::proto::srt) enum Reply {
    /// Send it back: the keys are taken, or were before.
    Echo {
        /// There were new keys.
        fresh: bool,
    },
    /// Say why not.
    Refuse(KmState),
    /// A key encryption key is to be derived first.
    Need(Salt, KeyLength),
    /// Nothing: it is not the peer's, or comes too soon.
    Ignore,
}

impl ReceiveKeys {
    /// `first` is the message that the connection began with. The key before is kept for so many packets.
    pub(in crate::proto::srt) fn new(
        keys: StreamKeys,
        kek: Kek,
        first: Option<&[u8]>,
        start: ExtSeq,
        keep: u32,
    ) -> Self {
        let seen = first.and_then(|message| KeyMaterial::parse(message).ok()).and_then(|km| fingerprint(&km));
        Self {
            older: None,
            kek,
            seen: seen.into_iter().collect(),
            waiting: None,
            asked: None,
            current: if keys.has(Key::Even) { Key::Even } else { Key::Odd },
            since: start,
            lingers: false,
            keep: keep.into(),
            keys,
            refreshes: 0,
        }
    }

    /// Decrypt a payload in place. `false`: there is no key for it, and it is as it was.
    pub(in crate::proto::srt) fn open(&mut self, key: Key, at: ExtSeq, payload: &mut [u8]) -> bool {
        let older = self.older.as_ref().filter(|(older, until)| at < *until && older.has(key));
        if !older.map_or(&self.keys, |(older, _)| older).apply(key, at.seq(), payload) {
            return false;
        }
        if key != self.current && at > self.since {
            (self.current, self.since, self.lingers) = (key, at, true);
        } else if self.lingers && at.since(self.since) >= self.keep {
            // What comes with it now has the one after it, and waits for that.
            self.lingers = false;
            self.keys.remove(self.current.other());
        }
        true
    }

    /// Nothing before this is waited for any more.
    pub(in crate::proto::srt) fn forget(&mut self, before: ExtSeq) {
        self.older.take_if(|(_, until)| *until <= before);
    }

    pub(in crate::proto::srt) const fn refreshes(&self) -> u64 {
        self.refreshes
    }

    /// A KMREQ came, and no packet yet from `end` on: none before that is encrypted with a key that is new.
    pub(in crate::proto::srt) fn handle(&mut self, message: &[u8], end: ExtSeq, now: Tick) -> Reply {
        let km = match KeyMaterial::parse(message) {
            Ok(km) => km,
            Err(error) => return Reply::Refuse(error.state()),
        };
        let Some(print) = fingerprint(&km) else { return Reply::Ignore };
        match self.seen.iter().position(|seen| *seen == print) {
            Some(0) => return Reply::Echo { fresh: false },
            Some(_) => return Reply::Ignore,
            None => {}
        }
        match self.kek.unwrap(&km) {
            Ok(fresh) => {
                self.take(fresh, print, end);
                Reply::Echo { fresh: true }
            }
            Err(UnwrapError::WrongPassphrase) => Reply::Refuse(KmState::BadSecret),
            Err(UnwrapError::OtherKek) => {
                if self.asked.is_some_and(|asked| now.since(asked) < LEAST_BETWEEN) || message.len() > LONGEST {
                    return Reply::Ignore;
                }
                self.asked = Some(now);
                self.waiting = Some(message.to_vec());
                Reply::Need(km.salt, km.key_length)
            }
        }
    }

    /// The key encryption keys that were asked for, one for each passphrase; the message to answer, and how.
    pub(in crate::proto::srt) fn provide(&mut self, candidates: &[Kek], end: ExtSeq) -> Option<(Vec<u8>, Reply)> {
        let message = self.waiting.take()?;
        let km = KeyMaterial::parse(&message).ok()?;
        let print = fingerprint(&km)?;
        let right = candidates.iter().find_map(|kek| Some((kek, kek.unwrap(&km).ok()?)));
        let Some((kek, fresh)) = right else {
            return Some((message, Reply::Refuse(KmState::BadSecret)));
        };
        self.kek = kek.clone();
        self.take(fresh, print, end);
        Some((message, Reply::Echo { fresh: true }))
    }

    fn take(&mut self, fresh: StreamKeys, print: [u8; 8], end: ExtSeq) {
        self.older = Some((self.keys.clone(), end));
        self.lingers = false;
        self.keys.merge(fresh);
        self.seen.truncate(REMEMBERED - 1);
        self.seen.push_front(print);
        self.refreshes += 1;
    }
}

fn fingerprint(km: &KeyMaterial<'_>) -> Option<[u8; 8]> {
    km.wrapped.first_chunk().copied()
}
