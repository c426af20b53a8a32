//! Just enough of SRT to be sent a live stream, in the clear: a caller's handshake, acknowledgements, keepalives.
//!
//! Packets are handed on as they come: nothing is held back or asked for again, since what counts is the sender's work.
//! It acknowledges as libsrt does, every 10 ms, so that the sender's part of that is paid for.

/// Bytes of a packet's header.
const HEADER: usize = 16;
const CONTROL: u32 = 0x8000_0000;
const HANDSHAKE: u32 = CONTROL;
const KEEPALIVE: u32 = CONTROL | 1 << 16;
const ACK: u32 = CONTROL | 2 << 16;
const SHUTDOWN: u32 = CONTROL | 5 << 16;
const INDUCTION: u32 = 1;
const CONCLUSION: u32 = 0xFFFF_FFFF;
/// Of libsrt: between two handshakes of a caller that is not answered, acknowledgements, and signs of life, in ns.
const HANDSHAKE_EVERY: u64 = 250_000_000;
const ACK_EVERY: u64 = 10_000_000;
const KEEPALIVE_EVERY: u64 = 1_000_000_000;

/// A receiver that calls.
#[derive(Debug)]
pub struct Caller {
    id: u32,
    start_ns: u64,
    /// The listener's, once it has answered the first half of the handshake.
    cookie: Option<u32>,
    /// The listener's, once it has accepted.
    peer: Option<u32>,
    refused: Option<u32>,
    /// One more than the greatest sequence number that came.
    next: u32,
    acknowledged: u32,
    acknowledgements: u32,
    last_handshake_ns: Option<u64>,
    last_ack_ns: u64,
    last_sent_ns: u64,
}

fn word(packet: &[u8], index: usize) -> Option<u32> {
    packet.get(index * 4..index * 4 + 4)?.try_into().ok().map(u32::from_be_bytes)
}

impl Caller {
    /// The receiver with this number; all times are of one clock that only goes forward.
    pub fn new(number: u16, now_ns: u64) -> Self {
        let isn = 0x1000_0000 + u32::from(number);
        Self {
            id: 0x0100_0000 + u32::from(number),
            start_ns: now_ns,
            cookie: None,
            peer: None,
            refused: None,
            next: isn,
            acknowledged: isn,
            acknowledgements: 0,
            last_handshake_ns: None,
            last_ack_ns: 0,
            last_sent_ns: 0,
        }
    }

    /// Whether the listener has accepted.
    pub fn is_connected(&self) -> bool {
        self.peer.is_some()
    }

    /// Why the listener did not accept, if it has not since this was last asked: 1000 and SRT's number of the reason. It
    /// is called again: it may have had too many calls at once.
    pub fn refused(&mut self) -> Option<u32> {
        self.refused.take()
    }

    /// What came from the listener; the payload, if it is media.
    pub fn receive<'a>(&mut self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let first = word(packet, 0)?;
        if first & CONTROL == 0 {
            self.peer?;
            let after = first.wrapping_add(1) & !CONTROL;
            // The short way round, in 31 bits.
            if after.wrapping_sub(self.next) << 1 < CONTROL {
                self.next = after;
            }
            return packet.get(HEADER..);
        }
        if first == HANDSHAKE {
            match word(packet, 9)? {
                INDUCTION if self.cookie.is_none() => {
                    self.cookie = word(packet, 11);
                    self.last_handshake_ns = None;
                }
                CONCLUSION => self.peer = word(packet, 10),
                code if code > 1000 && self.peer.is_none() => (self.refused, self.cookie) = (Some(code), None),
                _ => {}
            }
        }
        None
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        let Some(peer) = self.peer else {
            let due = self.last_handshake_ns.is_none_or(|last| now_ns >= last + HANDSHAKE_EVERY);
            return due.then(|| {
                self.last_handshake_ns = Some(now_ns);
                self.handshake(now_ns)
            });
        };
        if self.next != self.acknowledged && now_ns >= self.last_ack_ns + ACK_EVERY {
            (self.acknowledged, self.last_ack_ns, self.last_sent_ns) = (self.next, now_ns, now_ns);
            self.acknowledgements += 1;
            // Round trip and its variance in µs, free packets, packets/s, capacity in packets/s, bytes/s.
            let body = [self.next, 500, 100, 8192, 0, 0, 0];
            return Some(self.control(ACK, self.acknowledgements, peer, now_ns, &body));
        }
        (now_ns >= self.last_sent_ns + KEEPALIVE_EVERY).then(|| {
            self.last_sent_ns = now_ns;
            self.control(KEEPALIVE, 0, peer, now_ns, &[0])
        })
    }

    /// The last word.
    pub fn shutdown(&self, now_ns: u64) -> Option<Vec<u8>> {
        self.peer.map(|peer| self.control(SHUTDOWN, 0, peer, now_ns, &[0]))
    }

    fn handshake(&self, now_ns: u64) -> Vec<u8> {
        let loopback = u32::from_be_bytes([1, 0, 0, 127]);
        let (version, extensions, kind, cookie) = match self.cookie {
            None => (4, 2, INDUCTION, 0),
            Some(cookie) => (5, 1, CONCLUSION, cookie),
        };
        let mut body =
            vec![version, extensions, self.acknowledged, 1500, 8192, kind, self.id, cookie, loopback, 0, 0, 0];
        if self.cookie.is_some() {
            // HSREQ: version 1.5.1; TSBPD, encryption, drop, periodic NAK and retransmission flag known; 120 ms.
            body.extend([0x0001_0003, 0x0001_0501, 0x3F, 120 << 16]);
        }
        self.control(HANDSHAKE, 0, 0, now_ns, &body)
    }

    fn control(&self, kind: u32, info: u32, peer: u32, now_ns: u64, body: &[u32]) -> Vec<u8> {
        let timestamp = ((now_ns - self.start_ns) / 1000) as u32;
        [kind, info, timestamp, peer].iter().chain(body).flat_map(|word| word.to_be_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u32, id: u32, cookie: u32) -> Vec<u8> {
        let words = [HANDSHAKE, 0, 0, 0, 5, 0, 0, 1500, 8192, kind, id, cookie, 0, 0, 0, 0];
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn data(sequence: u32) -> Vec<u8> {
        [&[sequence, 0xC000_0001, 0, 7].map(u32::to_be_bytes).concat()[..], b"media"].concat()
    }

    #[test]
    fn it_calls_until_it_is_accepted_and_then_acknowledges_what_comes() {
        let mut caller = Caller::new(3, 0);
        let induction = caller.poll(0).unwrap();
        assert_eq!((word(&induction, 4), word(&induction, 9)), (Some(4), Some(INDUCTION)));
        assert_eq!(caller.poll(1), None);
        assert!(caller.poll(HANDSHAKE_EVERY).is_some());
        assert_eq!(caller.receive(&answer(INDUCTION, 0, 99)), None);
        let conclusion = caller.poll(HANDSHAKE_EVERY + 1).unwrap();
        assert_eq!([9, 11].map(|at| word(&conclusion, at)), [Some(CONCLUSION), Some(99)]);
        assert!(!caller.is_connected() && caller.receive(&data(0x1000_0003)).is_none());
        caller.receive(&answer(CONCLUSION, 42, 99));
        assert!(caller.is_connected());
        assert_eq!(caller.receive(&data(0x1000_0003)), Some(&b"media"[..]));
        assert_eq!(caller.receive(&data(0x1000_0005)), Some(&b"media"[..]));
        assert_eq!(caller.receive(&data(0x1000_0004)), Some(&b"media"[..]));
        let ack = caller.poll(ACK_EVERY).unwrap();
        assert_eq!([0, 1, 3, 4].map(|at| word(&ack, at)), [Some(ACK), Some(1), Some(42), Some(0x1000_0006)]);
        assert_eq!(caller.poll(ACK_EVERY + 1), None);
        assert_eq!(word(&caller.poll(ACK_EVERY + KEEPALIVE_EVERY).unwrap(), 0), Some(KEEPALIVE));
    }

    #[test]
    fn a_refusal_is_told_and_nonsense_is_not_heeded() {
        let mut caller = Caller::new(0, 0);
        caller.receive(&[]);
        caller.receive(&[0x80; 7]);
        caller.poll(0).unwrap();
        caller.receive(&answer(INDUCTION, 0, 99));
        caller.poll(1).unwrap();
        caller.receive(&answer(1005, 0, 99));
        assert_eq!((caller.refused(), caller.refused(), caller.is_connected()), (Some(1005), None, false));
        let again = caller.poll(1 + HANDSHAKE_EVERY).unwrap();
        assert_eq!(word(&again, 9), Some(INDUCTION));
    }
}
