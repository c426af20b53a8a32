//! A copy of what is on air, for those who look at it. The flow never waits for them: what they do not take in time is
//! dropped, whole datagrams of it.

use std::io::{ErrorKind, Result, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::egress::MediaPacket;
use super::stats::Figure;
use crate::time::Instant;

/// Bytes that are gathered at most: one call for some fifty datagrams.
const ROOM: usize = 64 * 1024;
/// How long datagrams are gathered. What is left when no more come is of no use to anybody.
const GATHER: Duration = Duration::from_millis(100);
/// A reader that took nothing is not asked again before.
const PAUSE: Duration = Duration::from_millis(10);

/// The figures of a tap.
#[derive(Debug, Default)]
pub struct TapStats {
    /// Datagrams that were not taken in time.
    pub dropped: Figure,
}

/// One end of a connection that what is on air is written into.
#[derive(Debug)]
pub struct Tap {
    socket: UnixStream,
    /// Datagrams to be written; of the first one perhaps only its end.
    held: Vec<u8>,
    due: Instant,
    blocked_until: Option<Instant>,
    /// The reader has gone.
    broken: bool,
    stats: Arc<TapStats>,
}

impl Tap {
    /// Into this socket.
    ///
    /// # Errors
    /// It can't be made one that never waits.
    pub fn new(socket: UnixStream, stats: Arc<TapStats>) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let (held, due) = (Vec::with_capacity(ROOM), Instant::now());
        Ok(Self { socket, held, due, blocked_until: None, broken: false, stats })
    }

    /// Take packets that go on air.
    pub(super) fn packets(&mut self, packets: &[MediaPacket<'_>], now: Instant) {
        if self.broken || packets.is_empty() {
            return;
        }
        for MediaPacket { payload, .. } in packets {
            if self.held.len() + payload.len() > ROOM {
                self.write(now);
            }
            if self.held.len() + payload.len() > ROOM {
                self.stats.dropped.add(1);
            } else {
                self.held.extend_from_slice(payload);
            }
        }
        if self.due <= now {
            self.write(now);
        }
    }

    /// What was begun is written first: the reader gets whole packets, one after the other.
    fn write(&mut self, now: Instant) {
        if self.blocked_until.is_some_and(|until| now < until) {
            return;
        }
        (self.due, self.blocked_until) = (now + GATHER, None);
        match self.socket.write(&self.held) {
            Ok(written) if written == self.held.len() => self.held.clear(),
            Ok(written) => {
                self.held.drain(..written);
                self.blocked_until = Some(now + PAUSE);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked_until = Some(now + PAUSE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever reads the other way notices, and gives another one.
            Err(_) => (self.broken, self.held) = (true, Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::proto::seq::RtpTime;

    const MS: Duration = Duration::from_millis(1);
    const LEN: usize = 7 * 188;

    fn tap() -> (Tap, UnixStream, Arc<TapStats>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let stats = Arc::new(TapStats::default());
        (Tap::new(ours, stats.clone()).unwrap(), theirs, stats)
    }

    /// The datagram of a number, whose bytes all follow from it.
    fn datagram(number: u32) -> Vec<u8> {
        number.to_be_bytes().repeat(LEN / 4)
    }

    fn give(tap: &mut Tap, number: u32, now: Instant) {
        let payload = &datagram(number);
        let timestamp = RtpTime(0);
        tap.packets(&[MediaPacket { payload, datagram: payload, arrival: now, timestamp, discontinuity: false }], now);
    }

    /// All that waits to be read.
    fn take(theirs: &mut UnixStream) -> Vec<u8> {
        let mut all = Vec::new();
        // It ends with an error: more may come.
        let _ = theirs.read_to_end(&mut all);
        all
    }

    /// The numbers of whole datagrams.
    fn numbers(bytes: &[u8]) -> Vec<u32> {
        let number = |bytes: &[u8]| {
            let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
            assert!(bytes == datagram(number), "a datagram is torn");
            number
        };
        assert_eq!(bytes.len() % LEN, 0);
        bytes.chunks(LEN).map(number).collect()
    }

    #[test]
    fn datagrams_are_gathered_and_written_in_order() {
        let ((mut tap, mut theirs, stats), start) = (tap(), Instant::now() + MS);
        give(&mut tap, 0, start);
        assert_eq!(numbers(&take(&mut theirs)), [0], "the first is written at once");
        for n in 1..10 {
            give(&mut tap, n, start + n * 10 * MS);
            assert_eq!(take(&mut theirs), b"");
        }
        give(&mut tap, 10, start + GATHER);
        assert_eq!(numbers(&take(&mut theirs)), (1..=10).collect::<Vec<_>>());
        (11..100).for_each(|n| give(&mut tap, n, start + GATHER));
        let full = numbers(&take(&mut theirs));
        assert_eq!(full, (11..11 + (ROOM / LEN) as u32).collect::<Vec<_>>(), "what is full is written before its time");
        assert_eq!(stats.dropped.value(), 0);
    }

    #[test]
    fn a_reader_that_does_not_read_loses_whole_datagrams_and_nobody_waits() {
        let ((mut tap, mut theirs, stats), start) = (tap(), Instant::now() + MS);
        let now = |n: u32| start + n * MS;
        (0..2000).for_each(|n| give(&mut tap, n, now(n)));
        let dropped = stats.dropped.value();
        assert!(dropped > 500, "{dropped}");
        let mut bytes = take(&mut theirs);
        // What it takes again is what waited, and what comes.
        (2000..2300).for_each(|n| {
            give(&mut tap, n, now(n));
            bytes.extend(take(&mut theirs));
        });
        let read = numbers(&bytes[..bytes.len() / LEN * LEN]);
        assert!(read.is_sorted_by(|a, b| a < b), "{read:?}");
        let missing = u64::from(read[read.len() - 1]) + 1 - read.len() as u64;
        assert_eq!(missing, stats.dropped.value(), "what was dropped was counted");
        assert!(read.contains(&2100), "it goes on: {read:?}");
    }

    #[test]
    fn a_reader_that_has_gone_costs_nothing() {
        let ((mut tap, theirs, stats), start) = (tap(), Instant::now() + MS);
        drop(theirs);
        (0..2000).for_each(|n| give(&mut tap, n, start + n * MS));
        assert!(tap.broken);
        assert_eq!((tap.held.capacity(), stats.dropped.value()), (0, 0));
    }
}
