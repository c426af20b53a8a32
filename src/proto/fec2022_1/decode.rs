//! Receiving: a stream in order, with what is missing brought back as far as its FEC packets can. Without I/O; time is
//! an argument.
//!
//! The decoder is an [`RtpReceiver`] that is told of recovered packets as if they had come. Packets in order pass at
//! once; only behind a gap do they wait, and no longer than it can still be closed (see `review.rs`).
//!
//! Each FEC packet says itself which packets it protects (SNBase, offset, NA), so no matrix has to be known: row and
//! column, aligned to blocks or not, and the matrix before and after a change all go together. A FEC packet counts its
//! missing members; when one is left, that one is recovered, which counts down its other set, and so on until nothing
//! moves. Before FEC packets are seen, and after they have ended, this is a plain receiver with its reorder window.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::header::{FEC_LEN, FecError, FecHeader, FecStream};
use super::history::History;
use super::review::Review;
use super::sets::{Sets, Span};
use super::streams::{FecStreamCounters, SILENCE, Stream};
use super::xor;
use crate::proto::mpegts::packet::{PACKET_LEN, SYNC};
use crate::proto::rtp::header::{FIXED_LEN, Header, carries_mp2t};
use crate::proto::rtp::receive::{Released, RtpReceiver, SlotId};
use crate::proto::rtp::stats::RtpCounters;
use crate::proto::seq::{ExtSeq, Seq};

/// No packet waits longer than this for FEC.
pub const MAX_DELAY: Duration = Duration::from_millis(500);
/// FEC packets and media come by different ports: between them, order is not to be relied on for so long.
const PORT_SKEW: Duration = Duration::from_millis(10);

/// The figures of forward error correction. Lost before recovery are [`RtpCounters::lost`] and
/// [`RtpCounters::recovered`] together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FecCounters {
    /// Of the column stream.
    pub column: FecStreamCounters,
    /// Of the row stream.
    pub row: FecStreamCounters,
    /// Media packets recovered in time by their column.
    pub recovered_by_column: u64,
    /// Media packets recovered in time by their row.
    pub recovered_by_row: u64,
    /// What XOR gave was no packet of transport stream: a FEC packet that lied.
    pub rejected: u64,
}

/// The receiving end of one RTP stream with its FEC streams.
#[derive(Debug, Serialize, Deserialize)]
pub struct Decoder {
    pub(super) receiver: RtpReceiver<History>,
    /// The reorder window of plain RTP.
    window: Duration,
    pub(super) sets: Sets,
    /// Column, row.
    pub(super) streams: [Stream; 2],
    pub(super) review: Review,
    /// How long the newest packets took that a matrix needs twice; forgotten slowly.
    span: Duration,
    /// When the first FEC packet of this media stream came, and when the newest is too old to wait for more.
    pub(super) live: Option<(Instant, Instant)>,
    /// Sets with one missing member. Empty between calls; memory is kept.
    ripe: Vec<u32>,
    rebuilt: Vec<u8>,
    counters: FecCounters,
}

impl Decoder {
    /// A decoder that lets packets wait for those before them: `window` at most without FEC, and as long as the matrix
    /// needs with it.
    pub fn new(window: Duration) -> Self {
        Self {
            receiver: RtpReceiver::with_tap(window, History::default()),
            window,
            sets: Sets::default(),
            streams: Default::default(),
            review: Review::default(),
            span: Duration::ZERO,
            live: None,
            ripe: Vec::with_capacity(64),
            rebuilt: Vec::with_capacity(1536),
            counters: FecCounters::default(),
        }
    }

    /// Change the reorder window. [`Self::poll_timeout`] may change.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
        self.retune();
    }

    /// The figures of the media, as a plain receiver counts them.
    pub const fn counters(&self) -> &RtpCounters {
        self.receiver.counters()
    }

    /// The figures of forward error correction.
    pub const fn fec_counters(&self) -> FecCounters {
        let [column, row] = [self.streams[0].counters, self.streams[1].counters];
        FecCounters { column, row, ..self.counters }
    }

    /// The matrix, as the FEC packets of the last second say: L and D, each when its stream is seen.
    pub fn matrix(&self, now: Instant) -> (Option<u8>, Option<u8>) {
        let [column, row] = [self.streams[0].shape(now), self.streams[1].shape(now)];
        (column.map(|(l, _)| l).or(row.map(|(_, l)| l)), column.map(|(_, d)| d))
    }

    /// Whether FEC packets of this kind came within the last second.
    pub fn sees(&self, stream: FecStream, now: Instant) -> bool {
        self.streams[stream as usize].shape(now).is_some()
    }

    /// The longest that a packet may wait for those before it, as things stand.
    pub const fn delay(&self) -> Duration {
        self.receiver.window()
    }

    /// The whole packet behind [`Place::Held`](crate::proto::rtp::receive::Place::Held).
    pub fn held(&self, slot: SlotId) -> &[u8] {
        self.receiver.held(slot)
    }

    /// The whole packet of a released one; `now` is the media packet just handed in.
    pub fn bytes<'a>(&'a self, released: &Released, now: &'a [u8]) -> &'a [u8] {
        self.receiver.bytes(released, now)
    }

    /// The packets released so far are sent: their memory may be used again.
    pub fn recycle(&mut self) {
        self.receiver.recycle();
    }

    /// Take one media packet; see [`RtpReceiver::handle_packet`].
    pub fn handle_packet(&mut self, arrival: Instant, packet: &[u8], header: &Header, out: &mut Vec<Released>) {
        self.receiver.handle_packet(arrival, packet, header, out);
        self.settle(arrival, false, out);
    }

    /// Take one datagram that came to the port of a FEC stream. What was held may be released: never
    /// [`Place::Now`](crate::proto::rtp::receive::Place::Now).
    ///
    /// # Errors
    /// It is no FEC packet that can be used; it is counted, and that is all.
    pub fn handle_fec(
        &mut self,
        arrival: Instant,
        port: FecStream,
        packet: &[u8],
        out: &mut Vec<Released>,
    ) -> Result<(), FecError> {
        let fec = FecHeader::parse(packet).inspect_err(|_| self.streams[port as usize].counters.invalid += 1)?;
        let stream = &mut self.streams[fec.stream as usize];
        stream.count(fec.seq);
        let history = self.receiver.tap_mut();
        history.fit(u16::from(fec.offset) * u16::from(fec.na));
        let base = history.newest().map(|newest| newest.unwrap(fec.base));
        let span = base.map(|base| Span { base, offset: fec.offset, na: fec.na });
        let Some(span) = span.filter(|span| history.covers(span.base) && history.covers(span.last())) else {
            stream.counters.stray += 1;
            return Ok(());
        };
        stream.learn(arrival, &fec, span);
        let first = self.live.map_or(arrival, |(first, _)| first);
        self.live = Some((first, arrival + SILENCE));
        self.measure(arrival);
        self.keep(&fec, packet, span);
        self.settle(arrival, true, out);
        Ok(())
    }

    /// Time has passed: release what has waited long enough. Afterwards [`Self::poll_timeout`] is later than `now`.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Released>) {
        self.receiver.handle_timeout(now, out);
        self.settle(now, false, out);
    }

    /// When [`Self::handle_timeout`] is to be called at the latest. `None`: nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.receiver.poll_timeout().into_iter().chain(self.review.due()).min()
    }

    /// The source ends: release all that waits, and give up what is missing between.
    pub fn flush(&mut self, out: &mut Vec<Released>) {
        self.receiver.flush(out);
        self.review.end();
    }

    pub(super) const fn history(&self) -> &History {
        self.receiver.tap()
    }

    /// The time after which a packet or a FEC packet that should have come counts as not coming.
    pub(super) fn grace(&self) -> Duration {
        self.window.max(PORT_SKEW)
    }

    /// Keep a FEC packet while members are missing.
    fn keep(&mut self, fec: &FecHeader, packet: &[u8], span: Span) {
        let history = self.receiver.tap();
        let missing = span.members().filter(|member| !history.has(*member)).count() as u8;
        let stream = fec.stream as usize;
        let known = |member| self.sets.get(history.sets(member)[stream]).is_some_and(|set| set.span == span);
        if missing == 0 || span.members().any(known) {
            return;
        }
        let Some(id) = self.sets.keep(packet, fec, span, missing) else { return };
        let history = self.receiver.tap_mut();
        for member in span.members() {
            if !history.has(member) {
                history.link(member, stream, id);
            }
        }
        if missing == 1 {
            self.ripe.push(id);
        }
    }

    /// Draw the conclusions of what has changed: recover, then give up what nothing can bring back.
    fn settle(&mut self, now: Instant, fec: bool, out: &mut Vec<Released>) {
        if self.receiver.tap_mut().take_restart() {
            self.sets.clear();
            self.ripe.clear();
            self.streams.iter_mut().for_each(Stream::forget);
            self.live = None;
        }
        if self.live.is_none_or(|(_, until)| until <= now) && self.receiver.window() != self.window {
            self.live = None;
            self.retune();
        }
        if let Some(newest) = self.history().newest() {
            self.streams.iter_mut().for_each(|stream| stream.media_came(newest));
        }
        loop {
            let news = self.receiver.tap_mut().take_news();
            news.iter().for_each(|&seq| self.count_down(seq));
            self.receiver.tap_mut().news_read(news);
            let Some(id) = self.ripe.pop() else { break };
            self.recover(id, now, out);
        }
        self.review(now, fec, out);
    }

    /// A packet came, or was seen to be missing.
    fn count_down(&mut self, seq: ExtSeq) {
        let came = self.history().has(seq);
        for id in self.history().sets(seq) {
            let missing = if came { self.sets.member_came(id) } else { self.sets.missing(id) };
            match missing {
                Some(0) => self.sets.free(id),
                Some(1) => self.ripe.push(id),
                _ => {}
            }
        }
    }

    /// Recover the one missing member of a set.
    fn recover(&mut self, id: u32, now: Instant, out: &mut Vec<Released>) {
        let Some(&set) = self.sets.get(id) else { return };
        let history = self.receiver.tap();
        let mut missing = set.span.members().filter(|member| !history.has(*member));
        let (Some(seq), None) = (missing.next(), missing.next()) else { return };
        // One that is yet to come is not missing: FEC may be read before media. It is news when a later one comes.
        if history.newest().is_none_or(|newest| seq > newest) {
            return;
        }
        let header = self.rebuild(id, seq);
        self.sets.free(id);
        let Some(header) = header else {
            self.counters.rejected += 1;
            return;
        };
        self.receiver.tap_mut().keep(now, seq, &self.rebuilt, &header);
        if self.receiver.recover(now, &self.rebuilt, &header, out) {
            match set.stream {
                FecStream::Column => self.counters.recovered_by_column += 1,
                FecStream::Row => self.counters.recovered_by_row += 1,
            }
        }
    }

    /// XOR a set without `lost` into `self.rebuilt`. `None`: the result can't be what was sent.
    fn rebuild(&mut self, id: u32, lost: ExtSeq) -> Option<Header> {
        let (set, history) = (self.sets.get(id)?, self.receiver.tap());
        let mut parity = set.parity;
        self.rebuilt.clear();
        self.rebuilt.extend_from_slice(&[0; FIXED_LEN]);
        self.rebuilt.extend_from_slice(&self.sets.packet(set)[FEC_LEN..]);
        let (fixed, payload) = self.rebuilt.split_at_mut(FIXED_LEN);
        for member in set.span.members().filter(|member| *member != lost) {
            let (other, rest) = history.packet(member)?.split_first_chunk::<FIXED_LEN>()?;
            if rest.len() > payload.len() {
                return None;
            }
            parity.fold(super::header::Parity::of(other, rest.len() as u16));
            xor(payload, rest);
        }
        // Behind the recovered packet, all have been filled up with zeros.
        let (_, filled_up) = payload.split_at_checked(parity.length.into())?;
        if filled_up.iter().any(|byte| *byte != 0) {
            return None;
        }
        let seq: Seq = lost.seq();
        fixed.copy_from_slice(&parity.fixed(seq, history.ssrc()));
        self.rebuilt.truncate(FIXED_LEN + usize::from(parity.length));
        let header = Header::parse(&self.rebuilt).ok().filter(|header| carries_mp2t(header.payload_type))?;
        let (ts, []) = self.rebuilt[header.payload()].as_chunks::<PACKET_LEN>() else { return None };
        (!ts.is_empty() && ts.iter().all(|packet| packet[0] == SYNC)).then_some(header)
    }

    /// Learn how long a packet may have to wait: a column's FEC packet comes up to two matrices after the member.
    fn measure(&mut self, now: Instant) {
        let shapes = self.streams.iter().filter_map(|stream| stream.shape(now));
        let period = shapes.map(|(offset, na)| u16::from(offset) * u16::from(na)).max().unwrap_or(0);
        if let Some(span) = self.history().span(2 * period) {
            self.span = span.max(self.span - self.span / 16);
        }
        self.retune();
    }

    fn retune(&mut self) {
        let fec = match self.live {
            Some(_) if self.span.is_zero() => MAX_DELAY,
            Some(_) => (self.span * 3 / 2 + self.grace()).min(MAX_DELAY),
            None => Duration::ZERO,
        };
        self.receiver.set_window(fec.max(self.window));
    }
}

#[cfg(test)]
pub(crate) mod tests;
