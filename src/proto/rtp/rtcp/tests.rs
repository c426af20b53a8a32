use proptest::prelude::*;

use super::*;

/// Hex digits to bytes; blanks are skipped.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// What ristsender 0.2.7 sends first, and then; and what ristreceiver 0.2.7 answers.
const SENDER_FIRST: &str = "80c80006bad6f6d2eeb421eae7609925fdc310dd0000000000000000 81ca0003bad6f6d20102766d00000000";
const SENDER_ECHO: &str =
    "80c90001bad6f6d2 81ca0003bad6f6d20102766d00000000 82cc0005bad6f6d25249535483aa9d62da5a933800000000";
const RECEIVER_REPORT: &str = "81c90007bad6f6d200000000000000000000000000000000000000009d62da6d
    81ca0007bad6f6d20112766d403132372e302e302e313a32323030310000000080cf00043e1ad8ba0400000283aa9d62da6d679d
    82cc00053e1ad8ba5249535483aa9d62da6d67f300000000";

fn packets(bytes: &[u8]) -> Vec<Packet<'_>> {
    Compound::parse(bytes).unwrap().packets().collect()
}

#[test]
fn what_librist_sends_is_read() {
    let bytes = hex(SENDER_FIRST);
    let report = SenderReport {
        ssrc: 0xBAD6_F6D2,
        ntp: 0xEEB4_21EA_E760_9925,
        timestamp: RtpTime(0xFDC3_10DD),
        packets: 0,
        octets: 0,
    };
    let name = Packet::SourceDescription { ssrc: 0xBAD6_F6D2, cname: Some(b"vm") };
    assert_eq!(packets(&bytes), [Packet::SenderReport(report), name]);
    let bytes = hex(SENDER_ECHO);
    let data = [0x83, 0xAA, 0x9D, 0x62, 0xDA, 0x5A, 0x93, 0x38, 0, 0, 0, 0];
    let echo = Packet::App { subtype: 2, ssrc: 0xBAD6_F6D2, name: *b"RIST", data: &data };
    assert_eq!(packets(&bytes), [Packet::ReceiverReport { ssrc: 0xBAD6_F6D2, block: None }, name, echo]);
}

#[test]
fn what_librist_answers_is_read() {
    let bytes = hex(RECEIVER_REPORT);
    let packets = packets(&bytes);
    let block = ReportBlock { delay: 0x9D62_DA6D, ..ReportBlock::default() };
    assert_eq!(packets[0], Packet::ReceiverReport { ssrc: 0xBAD6_F6D2, block: Some(block) });
    let cname = Some(&b"vm@127.0.0.1:22001"[..]);
    assert_eq!(packets[1], Packet::SourceDescription { ssrc: 0xBAD6_F6D2, cname });
    let Packet::ExtendedReport { ssrc: 0x3E1A_D8BA, blocks: rest } = packets[2] else { panic!("{packets:?}") };
    assert_eq!(blocks(rest).collect::<Vec<_>>(), [Block::ReferenceTime(0x83AA_9D62_DA6D_679D)]);
    assert!(matches!(packets[3], Packet::App { subtype: 2, ssrc: 0x3E1A_D8BA, .. }));
}

#[test]
fn what_is_written_is_what_librist_writes() {
    let mut out = Vec::new();
    let report = SenderReport {
        ssrc: 0xBAD6_F6D2,
        ntp: 0xEEB4_21EA_E760_9925,
        timestamp: RtpTime(0xFDC3_10DD),
        packets: 0,
        octets: 0,
    };
    write_sender_report(&report, &mut out);
    write_source_description(0xBAD6_F6D2, b"vm", &mut out);
    assert_eq!(out, hex(SENDER_FIRST));
    out.clear();
    write_receiver_report(0xBAD6_F6D2, None, &mut out);
    write_source_description(0xBAD6_F6D2, b"vm", &mut out);
    write_app(2, 0xBAD6_F6D2, *b"RIST", &[0x83AA_9D62, 0xDA5A_9338, 0], &mut out);
    assert_eq!(out, hex(SENDER_ECHO));
    out.clear();
    write_receiver_report(0xBAD6_F6D2, Some(&ReportBlock { delay: 0x9D62_DA6D, ..ReportBlock::default() }), &mut out);
    write_source_description(0xBAD6_F6D2, b"vm@127.0.0.1:22001", &mut out);
    write_extended_report(0x3E1A_D8BA, Block::ReferenceTime(0x83AA_9D62_DA6D_679D), &mut out);
    write_app(2, 0x3E1A_D8BA, *b"RIST", &[0x83AA_9D62, 0xDA6D_67F3, 0], &mut out);
    assert_eq!(out, hex(RECEIVER_REPORT));
}

#[test]
fn a_name_ends_with_one_to_four_zeros_whatever_its_length() {
    for len in 0..300 {
        let (mut out, name) = (Vec::new(), vec![b'n'; len]);
        write_source_description(7, &name, &mut out);
        let zeros = out.iter().rev().take_while(|byte| **byte == 0).count();
        assert!(out.len() % 4 == 0 && (len == 0 || (1..=4).contains(&zeros)), "{len}: {zeros}");
        let cname = Some(&name[..len.min(MAX_CNAME)]);
        assert_eq!(packets(&out), [Packet::SourceDescription { ssrc: 7, cname }]);
    }
}

#[test]
fn broken_packets_are_named_and_nothing_of_them_is_read() {
    let error = |text: &str| Compound::parse(&hex(text)).unwrap_err();
    assert_eq!(error(""), RtcpError::Truncated);
    assert_eq!(error("80c900"), RtcpError::Truncated);
    assert_eq!(error("80c90002 00000001"), RtcpError::Truncated);
    assert_eq!(error("40c90001 00000001"), RtcpError::Version(1));
    assert_eq!(error("80c90001 00000001 01"), RtcpError::Truncated, "what follows is no packet");
    assert_eq!(error("81c90001 00000001"), RtcpError::Short(RR), "a block is announced");
    assert_eq!(error("80c80001 00000001"), RtcpError::Short(SR));
    assert_eq!(error("80cc0001 00000001"), RtcpError::Short(APP));
    assert_eq!(error("81cd0001 00000001"), RtcpError::Short(RTPFB));
    assert_eq!(error("81ca0002 00000001 01096162"), RtcpError::Short(SDES), "the name is longer than the packet");
    assert_eq!(error("a0c90001 00000001 80c90001 00000001"), RtcpError::Padding, "padding before the end");
    assert_eq!(error("a0c90001 00000001"), RtcpError::Padding, "of 1 byte");
    assert_eq!(error("a0c90001 00000008"), RtcpError::Padding, "longer than the packet");
    assert_eq!(packets(&hex("a0c90002 00000001 00000004")), [Packet::ReceiverReport { ssrc: 1, block: None }]);
}

#[test]
fn unknown_types_are_passed_over() {
    let bytes = hex("804d0001 00000001 80ce0001 00000001 80c90001 00000001 80cb0000 81cb0001 00000009");
    let read = packets(&bytes);
    assert_eq!(read[..2], [Packet::Other(77), Packet::Other(206)]);
    assert_eq!(read[3..], [Packet::Bye { ssrc: None }, Packet::Bye { ssrc: Some(9) }]);
}

#[test]
fn a_loss_count_has_a_sign() {
    for lost in [0, 1, -1, (1 << 23) - 1, -(1 << 23)] {
        let (mut out, block) = (Vec::new(), ReportBlock { lost, fraction: 255, ..ReportBlock::default() });
        write_receiver_report(1, Some(&block), &mut out);
        assert_eq!(packets(&out), [Packet::ReceiverReport { ssrc: 1, block: Some(block) }]);
    }
}

#[test]
fn all_answers_of_a_block_are_read_and_others_skipped() {
    let rest = hex("01000001 ffffffff 05000006 00000001 00000002 00000003 00000004 00000005 00000006
        04000002 00000007 00000008 04000001 00000000 05000009");
    let read: Vec<_> = blocks(&rest).collect();
    assert_eq!(read, [Block::Delay(1, 2, 3), Block::Delay(4, 5, 6), Block::ReferenceTime(0x7_0000_0008)]);
}

proptest! {
    #[test]
    fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..128)) {
        fuzz(&data);
    }

    #[test]
    fn nothing_that_looks_like_rtcp_panics(
        parts in proptest::collection::vec((0_u8..64, 190_u8..210, proptest::collection::vec(any::<u8>(), 0..48)), 1..5),
    ) {
        let mut data = Vec::new();
        for (first, kind, mut body) in parts {
            body.resize(body.len() / 4 * 4, 0);
            data.extend([0x80 | first, kind, 0, (body.len() / 4) as u8]);
            data.extend(body);
        }
        fuzz(&data);
    }

    #[test]
    fn what_is_written_is_read_back(
        ssrc: u32, media: u32, ntp: u64, format in 0_u8..32, words in proptest::collection::vec(any::<u32>(), 0..20),
    ) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut out = Vec::new();
        write_app(format, ssrc, *b"RIST", &words, &mut out);
        write_feedback(format, ssrc, media, &words, &mut out);
        write_extended_report(ssrc, Block::Delay(media, 1, 2), &mut out);
        let read = packets(&out);
        prop_assert_eq!(read[0], Packet::App { subtype: format, ssrc, name: *b"RIST", data: &bytes });
        prop_assert_eq!(read[1], Packet::Feedback { format, sender: ssrc, media, fci: &bytes });
        let Packet::ExtendedReport { blocks: rest, .. } = read[2] else { panic!("{read:?}") };
        prop_assert_eq!(blocks(rest).collect::<Vec<_>>(), [Block::Delay(media, 1, 2)]);
        let _ = ntp;
    }
}
