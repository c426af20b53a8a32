//! The keys of what we send.

use serde::{Deserialize, Serialize};

use super::{LAST_USE, MOST_TRIES, SLOW_RETRY};
use crate::proto::srt::clock::{MILLISECOND, Tick};
use crate::proto::srt::crypto::{Kek, MAX_KEY, StreamKeys, StreamSecret};
use crate::proto::srt::km::{KmAnswer, KmState};
use crate::proto::srt::packet::Key;
use crate::proto::srt::rtt::Rtt;
use crate::proto::srt::seq::SeqNo;
use crate::proto::srt::stats::KeyState;
use crate::proto::srt::window::ExtSeq;

/// The keys of what we send, and how far the next one is.
#[derive(Serialize, Deserialize)]
pub(in crate::proto::srt) struct SendKeys {
    keys: StreamKeys,
    kek: Kek,
    period: u64,
    preannounce: u64,
    current: Key,
    /// The first packet with the current key.
    since: ExtSeq,
    /// The first packet with the key before, while that is kept.
    before: Option<ExtSeq>,
    /// Packets sent with the current key.
    used: u64,
    /// The next key, not announced yet.
    secret: Option<StreamSecret>,
    wanted: bool,
    next: Next,
    refreshes: u64,
}

/// How far the next key is.
#[derive(Serialize, Deserialize)]
enum Next {
    /// There is none yet.
    None,
    /// It is announced to the peer.
    Announced(Announcement),
    /// The peer has it.
    Confirmed,
}

#[derive(Serialize, Deserialize)]
struct Announcement {
    message: Vec<u8>,
    tries: u32,
    due: Tick,
    refused: Option<KmState>,
}

impl SendKeys {
    pub(in crate::proto::srt) fn new(
        keys: StreamKeys,
        kek: Kek,
        start: ExtSeq,
        (period, preannounce): (u32, u32),
    ) -> Self {
        let current = if keys.has(Key::Even) { Key::Even } else { Key::Odd };
        // At least one packet with each key, and at most half of them announced: the old key must be gone by then.
        let period = u64::from(period.max(2));
        let preannounce = u64::from(preannounce).clamp(1, period / 2);
        Self {
            keys,
            kek,
            period,
            preannounce,
            current,
            since: start,
            before: None,
            used: 0,
            secret: None,
            wanted: true,
            next: Next::None,
            refreshes: 0,
        }
    }

    pub(in crate::proto::srt) const fn refreshes(&self) -> u64 {
        self.refreshes
    }

    pub(in crate::proto::srt) const fn state(&self) -> KeyState {
        match &self.next {
            Next::Announced(announcement) if announcement.refused.is_some() => KeyState::Unconfirmed,
            Next::Announced(announcement) if announcement.tries >= MOST_TRIES => KeyState::Unconfirmed,
            Next::Announced(_) => KeyState::Announcing,
            Next::None | Next::Confirmed => KeyState::Secured,
        }
    }

    /// Whether the host is to provide the next key: true once each time.
    pub(in crate::proto::srt) fn wants_secret(&mut self) -> bool {
        self.used > 0 && std::mem::take(&mut self.wanted)
    }

    /// The next key.
    pub(in crate::proto::srt) fn provide(&mut self, random: &[u8; MAX_KEY]) {
        self.secret = Some(StreamSecret::new(self.keys.key_length(), random));
        self.wanted = false;
    }

    /// The key for a packet that is sent for the first time, `None` when there is none left that may be used; `acked` is
    /// the first that may have to be sent again.
    pub(in crate::proto::srt) fn next_key(&mut self, at: ExtSeq, acked: ExtSeq, now: Tick) -> Option<Key> {
        if self.used >= self.period && matches!(self.next, Next::Confirmed) {
            self.before = Some(self.since);
            (self.current, self.since, self.used) = (self.current.other(), at, 0);
            (self.next, self.wanted) = (Next::None, true);
            self.refreshes += 1;
        }
        if self.used >= LAST_USE {
            return None;
        }
        self.used += 1;
        if self.used >= self.preannounce && self.before.is_some() && acked >= self.since {
            self.retire();
        }
        if self.used + self.preannounce > self.period && matches!(self.next, Next::None) {
            self.announce(now);
        }
        Some(self.current)
    }

    /// The key that a packet was sent with for the first time, if it is still there.
    pub(in crate::proto::srt) fn key_of(&self, at: ExtSeq) -> Option<Key> {
        if at >= self.since {
            return Some(self.current);
        }
        self.before.filter(|before| at >= *before).map(|_| self.current.other())
    }

    fn retire(&mut self) {
        self.before = None;
        self.keys.remove(self.current.other());
    }

    fn announce(&mut self, now: Tick) {
        let Some(secret) = self.secret.take() else { return };
        self.before = None;
        self.keys.set(self.current.other(), secret);
        if let Some(message) = self.kek.wrap(&self.keys) {
            self.next = Next::Announced(Announcement { message, tries: 0, due: now, refused: None });
        }
    }

    /// When a KMREQ is due.
    pub(in crate::proto::srt) const fn due(&self) -> Tick {
        match &self.next {
            Next::Announced(announcement) => announcement.due,
            Next::None | Next::Confirmed => Tick::NEVER,
        }
    }

    /// The KMREQ that is due, and whether it is the first that comes after too many tries.
    pub(in crate::proto::srt) fn poll(&mut self, now: Tick, rtt: &Rtt) -> Option<(&[u8], bool)> {
        let Next::Announced(announcement) = &mut self.next else { return None };
        if announcement.due > now {
            return None;
        }
        announcement.tries = announcement.tries.saturating_add(1);
        let fast = announcement.tries < MOST_TRIES && announcement.refused.is_none();
        let pause = if fast { (rtt.rtt() * 3 / 2).max(10 * MILLISECOND) } else { SLOW_RETRY };
        announcement.due = now.add(pause);
        Some((&announcement.message, announcement.tries == MOST_TRIES))
    }

    /// A KMRSP came. `None`: it answers nothing. Otherwise why the peer refuses the next key, when it says so for the
    /// first time.
    pub(in crate::proto::srt) fn answered(&mut self, answer: &KmAnswer<'_>) -> Option<Option<KmState>> {
        let Next::Announced(announcement) = &mut self.next else { return None };
        match *answer {
            KmAnswer::Echo(echo) if echo == announcement.message => {
                self.next = Next::Confirmed;
                Some(None)
            }
            KmAnswer::Echo(_) => None,
            KmAnswer::Failed(state) => {
                let state = state.unwrap_or(KmState::NoSecret);
                let first = announcement.refused.replace(state).is_none();
                Some(first.then_some(state))
            }
        }
    }

    /// Encrypt a payload in place. `false`: there is no such key.
    pub(in crate::proto::srt) fn seal(&self, key: Key, seq: SeqNo, payload: &mut [u8]) -> bool {
        self.keys.apply(key, seq, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::srt::km::{KeyLength, Salt};

    const START: ExtSeq = ExtSeq::start(SeqNo::new(0));

    fn keys(period: u32, preannounce: u32) -> SendKeys {
        let (salt, length) = (Salt([1; 16]), KeyLength::Aes128);
        let keys = StreamKeys::new(salt, Key::Even, StreamSecret::new(length, &[2; 32]));
        SendKeys::new(keys, Kek::derive(b"correct horse", salt, length), START, (period, preannounce))
    }

    /// Send so many packets, each acknowledged at once, and confirm what is announced.
    fn send(keys: &mut SendKeys, from: u64, packets: u64) -> Vec<Key> {
        let send = |n| {
            if keys.wants_secret() {
                keys.provide(&[n as u8; 32]);
            }
            let at = START.add(n);
            let key = keys.next_key(at, at, Tick(0))?;
            if let Some((message, _)) = keys.poll(Tick(0), &Rtt::default()) {
                let message = message.to_vec();
                assert_eq!(keys.answered(&KmAnswer::Echo(&message)), Some(None));
            }
            Some(key)
        };
        (from..from + packets).map_while(send).collect()
    }

    #[test]
    fn the_key_is_replaced_after_its_packets_and_the_old_one_kept_for_as_many_as_it_was_announced() {
        let mut keys = keys(10, 3);
        assert_eq!(send(&mut keys, 0, 10), [Key::Even; 10]);
        assert_eq!((keys.refreshes(), keys.key_of(START)), (0, Some(Key::Even)));
        assert_eq!(send(&mut keys, 10, 2), [Key::Odd; 2]);
        assert_eq!((keys.refreshes(), keys.key_of(START.add(9))), (1, Some(Key::Even)));
        assert_eq!(send(&mut keys, 12, 1), [Key::Odd]);
        assert_eq!((keys.key_of(START.add(9)), keys.key_of(START.add(10))), (None, Some(Key::Odd)));
        assert!(!keys.seal(Key::Even, SeqNo::new(0), &mut [0; 8]) && keys.seal(Key::Odd, SeqNo::new(0), &mut [0; 8]));
    }

    #[test]
    fn the_old_key_stays_as_long_as_a_packet_may_need_it() {
        let mut keys = keys(10, 3);
        send(&mut keys, 0, 10);
        for n in 10..17 {
            keys.next_key(START.add(n), START.add(9), Tick(0));
            assert_eq!(keys.key_of(START.add(9)), Some(Key::Even));
        }
        // Until the next one needs its place.
        keys.provide(&[9; 32]);
        keys.next_key(START.add(17), START.add(9), Tick(0));
        assert_eq!(keys.key_of(START.add(9)), None);
    }

    #[test]
    fn no_key_is_used_until_its_numbers_come_round() {
        let mut keys = keys(10, 3);
        assert_eq!(send(&mut keys, 0, 5).len(), 5);
        keys.used = LAST_USE - 2;
        keys.next = Next::None;
        keys.secret = None;
        keys.wanted = false;
        assert_eq!(send(&mut keys, 5, 10).len(), 2);
        assert_eq!(keys.next_key(START.add(7), START, Tick(0)), None);
    }

    #[test]
    fn a_request_is_repeated_ten_times_fast_and_then_slowly() {
        let mut keys = keys(10, 3);
        keys.provide(&[9; 32]);
        (0..8).for_each(|n| assert!(keys.next_key(START.add(n), START, Tick(0)).is_some()));
        let (mut times, mut unconfirmed, mut message) = (Vec::new(), 0, Vec::new());
        while times.len() < 13 {
            let now = keys.due();
            let (sent, told) = keys.poll(now, &Rtt::default()).unwrap();
            assert!(message.is_empty() || message == sent);
            message = sent.to_vec();
            unconfirmed += u32::from(told);
            times.push(now.0 / 1000);
            assert!(keys.poll(now, &Rtt::default()).is_none());
        }
        assert_eq!(times, [0, 150, 300, 450, 600, 750, 900, 1050, 1200, 1350, 2350, 3350, 4350]);
        assert_eq!((unconfirmed, keys.state()), (1, KeyState::Unconfirmed));
        assert_eq!(keys.answered(&KmAnswer::Echo(&message[1..])), None, "that is not what was sent");
        assert_eq!(keys.answered(&KmAnswer::Failed(Some(KmState::NoSecret))), Some(Some(KmState::NoSecret)));
        assert_eq!(keys.answered(&KmAnswer::Failed(Some(KmState::NoSecret))), Some(None), "once is enough");
        assert_eq!(keys.answered(&KmAnswer::Echo(&message)), Some(None));
        assert_eq!((keys.state(), keys.due()), (KeyState::Secured, Tick::NEVER));
    }

    #[test]
    fn periods_that_cannot_be_are_brought_into_range() {
        for (period, preannounce) in [(0, 0), (1, 1), (5, 100), (u32::MAX, u32::MAX)] {
            let mut keys = keys(period, preannounce);
            assert!(send(&mut keys, 0, 100).len() == 100 && keys.refreshes() < 100);
        }
    }
}
