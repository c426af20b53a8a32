//! Control packets of an established connection, in and out.

use super::{CloseReason, Connection, ConnectionEvent, KEEPALIVE, KEEPALIVE_SAMPLE, State};
use crate::proto::srt::clock::Tick;
use crate::proto::srt::control::{Ack, Control, write_nak};
use crate::proto::srt::handshake::{Handshake, Kind};
use crate::proto::srt::km::{KmAnswer, KmState};
use crate::proto::srt::packet::{HEADER_LEN, stamp};
use crate::proto::srt::rekey::Reply;
use crate::proto::srt::seq::{SocketId, Timestamp};

impl Connection {
    /// A control packet. `false`: it cannot be.
    pub(super) fn handle_control(
        &mut self,
        control: &Control<'_>,
        timestamp: Timestamp,
        destination: SocketId,
        arrival: Tick,
        now: Tick,
    ) -> bool {
        if let Control::Handshake(body) = control {
            return (destination == self.local || destination == SocketId::NONE) && self.handle_handshake(body);
        }
        if destination != self.local {
            return false;
        }
        match *control {
            Control::Handshake(_) => false,
            Control::KeepAlive => {
                if arrival.since(self.keepalive_sampled) >= KEEPALIVE_SAMPLE {
                    self.keepalive_sampled = arrival;
                    self.receiver.tsbpd.sample(timestamp, arrival, None);
                }
                true
            }
            Control::Ack(ack) => self.handle_ack(&ack, now),
            Control::LightAck(seq) => self.sender.handle_ack(seq, None, now),
            Control::Nak(losses) => self.sender.handle_nak(&losses, now),
            Control::AckAck(number) => self.receiver.handle_ackack(number, timestamp, arrival, &mut self.rtt),
            Control::DropRequest { first, last, .. } => self.receiver.handle_drop_request(first, last),
            Control::KmRequest(message) => self.handle_km_request(message, now),
            Control::KmResponse(body) => self.handle_km_response(body),
            Control::Shutdown => {
                self.end(CloseReason::PeerShutdown);
                true
            }
            Control::CongestionWarning | Control::PeerError(_) | Control::Other { .. } => true,
        }
    }

    /// The peer repeats its handshake: it did not get ours.
    fn handle_handshake(&mut self, body: &[u8]) -> bool {
        let Ok(handshake) = Handshake::parse(body) else { return false };
        self.reply_due |= self.reply.is_some() && handshake.kind != Kind::Agreement;
        true
    }

    fn handle_ack(&mut self, ack: &Ack, now: Tick) -> bool {
        if !self.sender.handle_ack(ack.seq, Some(ack.free_packets), now) {
            return false;
        }
        self.sender.counters.acks += 1;
        self.sender.answer_ack(ack.number, now);
        self.rtt.told(ack.rtt, ack.rtt_var, self.receiver.has_received());
        if let Some(rates) = ack.rates {
            (self.sender.peer_rate, self.sender.peer_capacity) = (rates.receive_rate, rates.link_capacity);
        }
        true
    }

    fn handle_km_request(&mut self, message: &[u8], now: Tick) -> bool {
        let reply = match &mut self.receive_keys {
            Some(keys) => keys.handle(message, now),
            None => Reply::Refuse(KmState::NoSecret),
        };
        self.answer_km(message, &reply);
        reply != Reply::Ignore
    }

    /// Answer a KMREQ.
    pub(super) fn answer_km(&mut self, message: &[u8], reply: &Reply) {
        match *reply {
            Reply::Echo { fresh } => {
                self.km_reply = Some(message.to_vec());
                if fresh {
                    self.push_event(ConnectionEvent::ReceiveKeyRefreshed);
                }
            }
            Reply::Refuse(state) => self.km_reply = Some(state.write().to_vec()),
            Reply::Need(salt, key_length) => self.push_event(ConnectionEvent::NeedKek { salt, key_length }),
            Reply::Ignore => {}
        }
    }

    fn handle_km_response(&mut self, body: &[u8]) -> bool {
        let Some(answer) = KmAnswer::parse(body) else { return false };
        let answered = self.send_keys.as_mut().and_then(|keys| keys.answered(&answer));
        if let Some(Some(refused)) = answered {
            self.push_event(ConnectionEvent::KeyRefused(refused));
        }
        answered.is_some()
    }

    /// Append the control packet that is due.
    pub(super) fn poll_open(&mut self, now: Tick, out: &mut Vec<u8>) -> bool {
        if std::mem::take(&mut self.reply_due)
            && let Some(reply) = &self.reply
        {
            let at = out.len();
            out.extend(reply);
            stamp(&mut out[at..], now.timestamp());
            return true;
        }
        if let Some(number) = self.sender.poll_ackack() {
            return self.write(&Control::AckAck(number), now, out);
        }
        if let Some(request) = self.sender.poll_drop_request(now) {
            return self.write(&request, now, out);
        }
        if let Some(body) = self.km_reply.take() {
            return self.write(&Control::KmResponse(&body), now, out);
        }
        if self.poll_km_request(now, out) || self.poll_report(now, out) {
            return true;
        }
        if let Some(ack) = self.receiver.poll_ack(now, &self.rtt) {
            return self.write(&ack, now, out);
        }
        now >= self.spoke.add(KEEPALIVE) && self.write(&Control::KeepAlive, now, out)
    }

    fn poll_km_request(&mut self, now: Tick, out: &mut Vec<u8>) -> bool {
        let Some((message, unconfirmed)) = self.send_keys.as_mut().and_then(|keys| keys.poll(now, &self.rtt)) else {
            return false;
        };
        Control::KmRequest(message).write(now.timestamp(), self.remote, out);
        if unconfirmed {
            self.push_event(ConnectionEvent::KeyUnconfirmed);
        }
        true
    }

    fn poll_report(&mut self, now: Tick, out: &mut Vec<u8>) -> bool {
        let Some(losses) = self.receiver.poll_report(now, &self.rtt, self.largest - HEADER_LEN) else { return false };
        write_nak(now.timestamp(), self.remote, losses, self.largest, out) > 0
    }

    /// The last packet: a SHUTDOWN.
    pub(super) fn say_goodbye(&mut self, reason: CloseReason, now: Tick, out: &mut Vec<u8>) -> bool {
        self.state = State::Closed;
        self.push_event(ConnectionEvent::Closed(reason));
        self.write(&Control::Shutdown, now, out)
    }

    /// Always `true`: a packet was appended.
    fn write(&self, control: &Control<'_>, now: Tick, out: &mut Vec<u8>) -> bool {
        control.write(now.timestamp(), self.remote, out);
        true
    }
}
