use proptest::prelude::*;

use super::super::packet::{HEADER_LEN, Packet, PacketError, fuzz};
use super::super::vectors::bytes;
use super::*;

const TO: SocketId = SocketId(0x2f88_e7ca);
const AT: Timestamp = Timestamp(0x0002_d48b);

fn parse(packet: &[u8]) -> Control<'_> {
    match Packet::parse(packet) {
        Ok(Packet::Control { timestamp, destination, control }) => {
            assert_eq!((timestamp, destination), (AT, TO));
            control
        }
        other => panic!("{other:?}"),
    }
}

fn written(control: Control<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    control.write(AT, TO, &mut out);
    out
}

/// A control packet of one type with a body.
fn packet(kind: u16, w1: u32, body: &[u8]) -> Vec<u8> {
    let header = packet::header([CONTROL | u32::from(kind) << 16, w1, AT.0, TO.0]);
    [&header[..], body].concat()
}

fn error(packet: &[u8]) -> ControlError {
    match Packet::parse(packet) {
        Err(PacketError::Control(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn an_ackack_of_libsrt_is_read_and_written_alike() {
    let golden = bytes("80060000 00000001 0002d48b 2f88e7ca 00000000");
    assert_eq!(parse(&golden), Control::AckAck(1));
    assert_eq!(written(Control::AckAck(1)), golden);
}

#[test]
fn packets_without_a_body_are_written_with_padding_and_read_with_or_without() {
    let bodyless = [
        (1, 0, Control::KeepAlive),
        (4, 0, Control::CongestionWarning),
        (5, 0, Control::Shutdown),
        (6, 7, Control::AckAck(7)),
        (8, 4000, Control::PeerError(4000)),
    ];
    for (kind, w1, control) in bodyless {
        assert_eq!(written(control), packet(kind, w1, &[0; 4]));
        assert_eq!(parse(&packet(kind, w1, &[])), control);
        assert_eq!(parse(&packet(kind, w1, &[9; 4])), control);
        for len in [1, 3, 5, 8] {
            assert_eq!(error(&packet(kind, w1, &vec![0; len])), ControlError::Length { kind, len });
        }
    }
}

#[test]
fn acks_of_every_version_are_read() {
    let all = words(&[0x5f5b_f8a6, 100_000, 50_000, 8191, 900, 1000, 1_184_400, 77]);
    let ack = |rates| {
        let us = Duration::from_micros;
        let seq = SeqNo::new(0x5f5b_f8a6);
        Control::Ack(Ack { number: 3, seq, rtt: us(100_000), rtt_var: us(50_000), free_packets: 8191, rates })
    };
    let rates = |receive_bytes| Some(AckRates { receive_rate: 900, link_capacity: 1000, receive_bytes });
    let expected = [
        (4, Control::LightAck(SeqNo::new(0x5f5b_f8a6))),
        (16, ack(None)),
        (24, ack(rates(None))),
        (28, ack(rates(Some(1_184_400)))),
        (32, ack(rates(Some(1_184_400)))),
    ];
    for (len, control) in expected {
        assert_eq!(parse(&packet(2, 3, &all[..len])), control);
        // The eighth word of version 1.0.2 is not written again, nor does a light one have a number.
        let again = packet(2, if len == 4 { 0 } else { 3 }, &all[..len.min(28)]);
        assert_eq!(written(control), again);
    }
    for len in [0, 3, 8, 12, 20, 27] {
        assert_eq!(error(&packet(2, 3, &all[..len])), ControlError::Length { kind: 2, len });
    }
    assert_eq!(error(&packet(2, 3, &[0; 36])), ControlError::Length { kind: 2, len: 36 });
    assert_eq!(error(&packet(2, 3, &words(&[0x8000_0000]))), ControlError::Sequence { kind: 2 });
}

#[test]
fn a_round_trip_of_hours_is_written_as_the_longest_there_is() {
    let hours = Duration::from_secs(10_000);
    let ack = Ack { number: 1, seq: SeqNo::new(0), rtt: hours, rtt_var: hours, free_packets: 1, rates: None };
    assert_eq!(written(Control::Ack(ack))[20..28], [0xFF; 8]);
}

#[test]
fn a_loss_list_has_single_entries_and_ranges() {
    let body = words(&[7, 0x8000_0009, 12, 0xFFFF_FFFF, 1, 0x8000_0005, 5]);
    let packet = packet(3, 0, &body);
    let Control::Nak(losses) = parse(&packet) else { panic!("no loss list") };
    let ranges: Vec<_> = losses.ranges().map(|r| (r.first.value(), r.last.value(), r.packets())).collect();
    assert_eq!(ranges, [(7, 7, 1), (9, 12, 4), (0x7FFF_FFFF, 1, 3), (5, 5, 1)]);
    assert_eq!(written(Control::Nak(losses)), packet);
}

#[test]
fn a_broken_loss_list_is_refused_as_a_whole() {
    let of = |list: &[u32]| error(&packet(3, 0, &words(list)));
    assert_eq!(error(&packet(3, 0, &[])), ControlError::Length { kind: 3, len: 0 });
    assert_eq!(error(&packet(3, 0, &[0; 6])), ControlError::Length { kind: 3, len: 6 });
    assert_eq!(of(&[7, 0x8000_0009]), ControlError::Range { kind: 3 }, "it ends within a range");
    assert_eq!(of(&[7, 0x8000_0009, 8]), ControlError::Range { kind: 3 }, "9 to 8");
    assert_eq!(of(&[7, 0x8000_0009, 0x8000_000A]), ControlError::Sequence { kind: 3 });
}

#[test]
fn a_nak_holds_what_fits_and_says_how_much_that_is() {
    let losses: Vec<_> = (0..1000_u32).map(|n| LossRange::one(SeqNo::new(n * 2))).collect();
    let mut out = vec![0xAA];
    assert_eq!(write_nak(AT, TO, losses.iter().copied(), 1472, &mut out), 364);
    assert_eq!(out.len(), 1 + 1472);
    let Control::Nak(read) = parse(&out[1..]) else { panic!("no loss list") };
    assert!(read.ranges().eq(losses[..364].iter().copied()));

    let range = LossRange { first: SeqNo::MAX, last: SeqNo::new(4) };
    out.clear();
    assert_eq!(write_nak(AT, TO, [losses[0], range], HEADER_LEN + 8, &mut out), 1, "the range needs 8 more");
    assert_eq!(out, packet(3, 0, &words(&[0])));
    out.clear();
    assert_eq!(write_nak(AT, TO, [losses[0], range], HEADER_LEN + 12, &mut out), 2);
    assert_eq!(out, packet(3, 0, &words(&[0, 0xFFFF_FFFF, 4])));
    out.clear();
    assert_eq!(write_nak(AT, TO, [], 1472, &mut out), 0);
    assert!(out.is_empty(), "no loss, no packet");
}

#[test]
fn a_drop_request_names_its_first_and_last_packet() {
    let request = Control::DropRequest { message: MsgNo::new(5), first: SeqNo::MAX, last: SeqNo::new(1) };
    let golden = packet(7, 5, &words(&[0x7FFF_FFFF, 1]));
    assert_eq!(parse(&golden), request);
    assert_eq!(written(request), golden);
    assert_eq!(error(&packet(7, 5, &words(&[2, 1]))), ControlError::Range { kind: 7 });
    assert_eq!(error(&packet(7, 5, &words(&[0x8000_0002, 3]))), ControlError::Sequence { kind: 7 });
    for len in [0, 4, 9, 12] {
        assert_eq!(error(&packet(7, 5, &vec![0; len])), ControlError::Length { kind: 7, len });
    }
}

#[test]
fn key_material_of_a_refresh_is_read_and_written_alike() {
    let wrap = "25e9443af6d974e25ed932ebedb6d783cdae5be3df4c17a7827da9ace99d9f6be75dc62e894fa841";
    let body = bytes(&format!("12202903 00000000 02000200 00000404 b9dd1f7a472830b28de2628548445f7c {wrap}"));
    let golden = [bytes("ffff0003 00000000 00162594 2f88e7ca"), body.clone()].concat();
    let Ok(Packet::Control { timestamp, destination, control }) = Packet::parse(&golden) else { panic!() };
    assert_eq!(control, Control::KmRequest(&body));
    let mut out = Vec::new();
    control.write(timestamp, destination, &mut out);
    assert_eq!(out, golden);
    assert_eq!(written(Control::KmResponse(&body))[..4], bytes("ffff0004"));
}

#[test]
fn unknown_types_pass() {
    assert_eq!(parse(&packet(9, 1, &[1, 2, 3])), Control::Other { kind: 9, subtype: 0 });
    let extended = packet::header([0xFFFF_0009, 0, AT.0, TO.0]);
    assert_eq!(parse(&extended), Control::Other { kind: 0x7FFF, subtype: 9 });
}

proptest! {
    #[test]
    fn no_control_packet_panics(
        kind in prop_oneof![0_u16..10, Just(0x7FFF_u16), any::<u16>()],
        subtype in 0_u16..6,
        w1: u32,
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            proptest::collection::vec((any::<bool>(), 0_u32..16), 0..12).prop_map(|list| {
                list.iter().flat_map(|(range, n)| (n | u32::from(*range) << 31).to_be_bytes()).collect::<Vec<u8>>()
            }),
        ],
    ) {
        let header = packet::header([CONTROL | u32::from(kind) << 16 | u32::from(subtype), w1, AT.0, TO.0]);
        fuzz(&[&header[..], &body].concat());
    }

    #[test]
    fn loss_lists_are_read_as_written(list in proptest::collection::vec((any::<u32>(), 0_u32..3), 1..100), limit in 20_usize..900) {
        let losses: Vec<_> = list
            .iter()
            .map(|(first, n)| LossRange { first: SeqNo::new(*first), last: SeqNo::new(*first).add(*n) })
            .collect();
        let mut out = Vec::new();
        let count = write_nak(AT, TO, losses.iter().copied(), limit, &mut out);
        prop_assert!(out.len() <= limit);
        if count == 0 {
            prop_assert!(out.is_empty());
        } else {
            let Control::Nak(read) = parse(&out) else { panic!("no loss list") };
            prop_assert!(read.ranges().eq(losses[..count].iter().copied()));
        }
        if count < losses.len() {
            prop_assert!(out.len().max(HEADER_LEN) + 8 > limit, "there was room");
        }
    }
}
