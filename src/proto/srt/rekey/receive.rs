//! The keys of what we receive.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::proto::srt::clock::{SECOND, Tick};
use crate::proto::srt::crypto::{Kek, StreamKeys, UnwrapError};
use crate::proto::srt::km::{KeyLength, KeyMaterial, KmState, Salt};
use crate::proto::srt::packet::Key;
use crate::proto::srt::seq::SeqNo;
use crate::proto::srt::window::ExtSeq;

/// Key material that is remembered: a message that comes again later than this many others was recorded, and is not the
/// peer's.
const REMEMBERED: usize = 8;
/// A key encryption key is asked for this often at most: deriving it is work.
const LEAST_BETWEEN: i64 = SECOND;
/// Key material of two keys of 32 bytes, with salt and header: longer ones are none.
const LONGEST: usize = 16 + 16 + 8 + 64;

/// The keys of what we receive.
///
/// A message holds the key in use and the next one, which takes the place of the one before. Packets of all three may be
/// on their way: those before are sent again, and a libsrt switches to the next whether we have it or not. Which one a
/// packet has follows from its flag and from its place among the others.
#[derive(Serialize, Deserialize)]
pub(in crate::proto::srt) struct ReceiveKeys {
    keys: StreamKeys,
    /// The key before, once the next one has its place.
    before: Option<StreamKeys>,
    /// The key of the newest packets.
    current: Key,
    /// The first and the last packet that is known to have it.
    first: ExtSeq,
    last: ExtSeq,
    /// The last packet that is known to have the key before.
    last_before: ExtSeq,
    /// The other key is the next one, not the one before.
    next: bool,
    kek: Kek,
    /// The first 8 bytes of the wrapped keys of the last messages, which depend on all the rest; the last one first.
    seen: VecDeque<[u8; 8]>,
    /// A message that waits for its key encryption key.
    waiting: Option<Vec<u8>>,
    asked: Option<Tick>,
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
    /// `first` is the message that the connection began with, `start` its first packet.
    pub(in crate::proto::srt) fn new(keys: StreamKeys, kek: Kek, first: Option<&[u8]>, start: ExtSeq) -> Self {
        let seen = first.and_then(|message| KeyMaterial::parse(message).ok()).and_then(|km| fingerprint(&km));
        Self {
            current: if keys.has(Key::Even) { Key::Even } else { Key::Odd },
            keys,
            before: None,
            first: start,
            last: start.sub(1),
            last_before: start.sub(1),
            next: false,
            kek,
            seen: seen.into_iter().collect(),
            waiting: None,
            asked: None,
            refreshes: 0,
        }
    }

    /// Decrypt a payload in place. `false`: there is no key for it, and it is as it was.
    pub(in crate::proto::srt) fn open(&mut self, key: Key, at: ExtSeq, payload: &mut [u8]) -> bool {
        let keys = if key == self.current {
            // Otherwise it is the one two before.
            Some(&self.keys).filter(|_| at > self.last_before)
        } else if self.next {
            if at > self.last { Some(&self.keys) } else { self.before.as_ref() }
        } else {
            return self.open_with_last(key, at, payload);
        };
        if !keys.is_some_and(|keys| keys.apply(key, at.seq(), payload)) {
            return false;
        }
        if key == self.current {
            (self.first, self.last) = (self.first.min(at), self.last.max(at));
        } else if at > self.last {
            self.last_before = self.last;
            (self.current, self.first, self.last, self.next, self.before) = (key, at, at, false, None);
        }
        true
    }

    /// It says that it has the key before, or the one after, which we do not have. A libsrt whose keys last for a few
    /// hundred packets sometimes does the one, and sometimes the other. What comes out tells them apart.
    fn open_with_last(&self, key: Key, at: ExtSeq, payload: &mut [u8]) -> bool {
        if !self.keys.apply(key, at.seq(), payload) {
            return false;
        }
        let right = at < self.first || is_transport_stream(payload);
        // Twice is not at all.
        right || !self.keys.apply(key, at.seq(), payload)
    }

    pub(in crate::proto::srt) const fn refreshes(&self) -> u64 {
        self.refreshes
    }

    /// A KMREQ came.
    pub(in crate::proto::srt) fn handle(&mut self, message: &[u8], now: Tick) -> Reply {
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
                self.take(fresh, print);
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
    pub(in crate::proto::srt) fn provide(&mut self, candidates: &[Kek]) -> Option<(Vec<u8>, Reply)> {
        let message = self.waiting.take()?;
        let km = KeyMaterial::parse(&message).ok()?;
        let print = fingerprint(&km)?;
        let right = candidates.iter().find_map(|kek| Some((kek, kek.unwrap(&km).ok()?)));
        let Some((kek, fresh)) = right else {
            return Some((message, Reply::Refuse(KmState::BadSecret)));
        };
        self.kek = kek.clone();
        self.take(fresh, print);
        Some((message, Reply::Echo { fresh: true }))
    }

    fn take(&mut self, fresh: StreamKeys, print: [u8; 8]) {
        let old = self.keys.clone();
        self.keys.merge(fresh);
        if same(&old, &self.keys, self.current) {
            self.before = (!self.next && old.has(self.current.other())).then_some(old).or_else(|| self.before.take());
        } else {
            // The peer uses the other one already: a message got lost.
            self.last_before = self.last;
            (self.current, self.first) = (self.current.other(), self.last.add(1));
            (self.last, self.before) = (self.first, Some(old));
        }
        self.next = true;
        self.seen.truncate(REMEMBERED - 1);
        self.seen.push_front(print);
        self.refreshes += 1;
    }
}

fn is_transport_stream(payload: &[u8]) -> bool {
    payload.len().is_multiple_of(188) && payload.iter().step_by(188).all(|byte| *byte == 0x47)
}

/// Whether this key is the same in both.
fn same(a: &StreamKeys, b: &StreamKeys, key: Key) -> bool {
    let stream = |keys: &StreamKeys| {
        let mut block = [0; 16];
        keys.apply(key, SeqNo::new(0), &mut block).then_some(block)
    };
    stream(a) == stream(b)
}

fn fingerprint(km: &KeyMaterial<'_>) -> Option<[u8; 8]> {
    km.wrapped.first_chunk().copied()
}
