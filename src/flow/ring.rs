//! Copies of datagrams that wait for their time: one ring of bytes, reused. It grows with what has to wait, up to a
//! bound, and keeps what it has.

/// The first memory taken: some 48 ordinary datagrams.
const FIRST: usize = 64 << 10;

/// Where a datagram lies in the ring.
#[derive(Debug, Clone, Copy)]
pub(in crate::flow) struct Span {
    start: usize,
    len: usize,
}

/// First in, first out.
#[derive(Debug, Clone)]
pub(in crate::flow) struct Ring {
    bytes: Vec<u8>,
    limit: usize,
    /// Where the oldest datagram begins; equal to `tail`: nothing is held.
    head: usize,
    /// Where the next datagram goes. Below `head`: the ring has turned.
    tail: usize,
}

impl Ring {
    /// One that takes at most `limit` bytes of memory.
    pub(in crate::flow) const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, head: 0, tail: 0 }
    }

    /// Take at most `limit` bytes of memory from now on; what is taken already stays.
    pub(in crate::flow) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Copy a datagram. `None`: there is no room; [`Self::grow`] may make some.
    pub(in crate::flow) fn push(&mut self, datagram: &[u8]) -> Option<Span> {
        let len = datagram.len();
        if self.head == self.tail {
            (self.head, self.tail) = (0, 0);
        }
        let turned = self.tail < self.head;
        // Head and tail never meet but on an empty ring: a byte stays free before the head.
        let start = if turned {
            (len < self.head - self.tail).then_some(self.tail)?
        } else if len < self.bytes.len() - self.tail {
            self.tail
        } else {
            (len < self.head).then_some(0)?
        };
        self.bytes[start..][..len].copy_from_slice(datagram);
        self.tail = start + len;
        Some(Span { start, len })
    }

    /// Take more memory, to have room for `len` more bytes: twice what there is, within the bound. `spans` are all that
    /// are held, oldest first; they are moved.
    pub(in crate::flow) fn grow<'s>(&mut self, len: usize, spans: impl Iterator<Item = &'s mut Span>) {
        let wanted = (self.bytes.len() * 2).max(FIRST).max(self.bytes.len() + len + 1).min(self.limit);
        if wanted <= self.bytes.len() {
            return;
        }
        let mut bytes = Vec::with_capacity(wanted);
        for span in spans {
            let start = bytes.len();
            bytes.extend_from_slice(&self.bytes[span.start..][..span.len]);
            span.start = start;
        }
        (self.head, self.tail) = (0, bytes.len());
        bytes.resize(wanted, 0);
        self.bytes = bytes;
    }

    /// The bytes of a datagram that is held.
    pub(in crate::flow) fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..][..span.len]
    }

    /// Free all before `oldest`; `None`: all.
    pub(in crate::flow) fn free_before(&mut self, oldest: Option<Span>) {
        self.head = oldest.map_or(self.tail, |span| span.start);
    }

    /// Memory taken, in bytes.
    pub(in crate::flow) const fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a queue of vectors: any sizes, any rhythm.
        #[test]
        fn what_is_held_is_never_overwritten(
            limit in 1000_usize..200_000,
            steps in prop::collection::vec((1_usize..3000, 0_usize..4), 1..500),
        ) {
            let (mut ring, mut held) = (Ring::new(limit), VecDeque::<(Span, Vec<u8>)>::new());
            for (n, (len, free)) in steps.into_iter().enumerate() {
                let datagram = vec![(n % 251) as u8; len];
                let span = ring.push(&datagram).or_else(|| {
                    ring.grow(len, held.iter_mut().map(|(span, _)| span));
                    ring.push(&datagram)
                });
                match span {
                    Some(span) => held.push_back((span, datagram)),
                    None => prop_assert!(ring.capacity() == limit && !held.is_empty() || len >= limit),
                }
                for (span, datagram) in &held {
                    prop_assert_eq!(ring.get(*span), &datagram[..]);
                }
                // At times more leave than come, at times fewer.
                let free = if n / 50 % 2 == 0 { free / 2 } else { free };
                held.drain(..free.min(held.len()));
                ring.free_before(held.front().map(|(span, _)| *span));
                prop_assert!(ring.capacity() <= limit);
            }
        }
    }
}
