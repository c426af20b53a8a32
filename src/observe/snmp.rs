//! SNMPv2c traps (RFC 3416, section 4.2.6), in the Basic Encoding Rules (X.690): written, never read.
//!
//! The objects are those of `packaging/mib/MEDIACONNECT-MIB.txt`.

use zeroize::Zeroizing;

use super::feed::{EventDoc, EventType};
use super::status::Severity;
use super::text::cut;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// RFC 2578, section 7.1.8.
const TIME_TICKS: u8 = 0x43;
/// SNMPv2-Trap-PDU.
const TRAP: u8 = 0xa7;

const VERSION_2C: i64 = 1;
const SYS_UP_TIME: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// A text longer than this, in bytes, is cut.
const LONGEST: usize = 1000;

/// What is the same for all traps to one receiver.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The community.
    pub community: &'a [u8],
    /// Where the MIB hangs.
    pub enterprise: &'a [u32],
}

/// The datagram of a trap. `up_time` in hundredths of a second; `request` tells traps apart.
pub fn trap(sender: &Sender<'_>, doc: &EventDoc, up_time: u32, request: i32) -> Zeroizing<Vec<u8>> {
    let object = |rest: &[u32]| [sender.enterprise, &[1], rest].concat();
    let notification = match doc.r#type {
        EventType::Raised => 1,
        EventType::Cleared => 2,
        EventType::Event => 3,
    };
    let severity = match doc.severity {
        Severity::Critical => 1,
        Severity::Major => 2,
        Severity::Minor => 3,
        Severity::Info => 4,
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let figure = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let texts = [
        (1, doc.id.clone()),
        (2, doc.time.clone()),
        (3, doc.detail_type.clone()),
        (4, doc.event.clone()),
        (6, text(&doc.flow)),
        (7, text(&doc.source)),
        (8, text(&doc.output)),
        (9, text(&doc.alarm)),
        (10, doc.message.clone()),
        (11, figure(doc.value)),
        (12, figure(doc.threshold)),
        (13, doc.host.clone()),
    ];
    let mut bindings = binding(SYS_UP_TIME, &value(TIME_TICKS, &unsigned(up_time)));
    bindings.extend(binding(SNMP_TRAP_OID, &identifier(&object(&[0, notification]))));
    bindings.extend(binding(&object(&[1, 5, 0]), &integer(severity)));
    for (number, text) in &texts {
        let text = value(OCTET_STRING, cut(text, LONGEST).as_bytes());
        bindings.extend(binding(&object(&[1, *number, 0]), &text));
    }
    let mut pdu = integer(request.into());
    pdu.extend(integer(0));
    pdu.extend(integer(0));
    pdu.extend(value(SEQUENCE, &bindings));
    let mut message = Zeroizing::new(integer(VERSION_2C));
    message.extend(value(OCTET_STRING, sender.community));
    message.extend(value(TRAP, &pdu));
    Zeroizing::new(value(SEQUENCE, &message))
}

fn binding(name: &[u32], of: &[u8]) -> Vec<u8> {
    let mut content = identifier(name);
    content.extend_from_slice(of);
    value(SEQUENCE, &content)
}

/// Tag, length (X.690, 8.1.3, the shortest form) and content.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut to = Vec::with_capacity(content.len() + 6);
    to.push(tag);
    match u8::try_from(content.len()) {
        Ok(short @ ..0x80) => to.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let bytes = &length[length.iter().take_while(|byte| **byte == 0).count()..];
            to.push(0x80 | bytes.len() as u8);
            to.extend_from_slice(bytes);
        }
    }
    to.extend_from_slice(content);
    to
}

/// Two's complement in as few bytes as hold it (8.3).
fn integer(of: i64) -> Vec<u8> {
    let bytes = of.to_be_bytes();
    let redundant =
        |pair: &[u8]| matches!(pair, [0, next] if *next < 0x80) || matches!(pair, [0xff, next] if *next >= 0x80);
    let skip = bytes.windows(2).take_while(|pair| redundant(pair)).count();
    value(INTEGER, &bytes[skip..])
}

/// The content of an unsigned number of 32 bits, as a nonnegative integer.
fn unsigned(of: u32) -> Vec<u8> {
    integer(of.into()).split_off(2)
}

/// Base 128, the first two numbers in one (8.19).
fn identifier(numbers: &[u32]) -> Vec<u8> {
    let first = numbers.first().copied().unwrap_or(0) * 40 + numbers.get(1).copied().unwrap_or(0);
    let mut content = Vec::new();
    for number in std::iter::once(first).chain(numbers.iter().skip(2).copied()) {
        let groups = (32 - number.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let more = if group > 0 { 0x80 } else { 0 };
            content.push(more | (number >> (7 * group) & 0x7f) as u8);
        }
    }
    value(OBJECT_IDENTIFIER, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_as_few_bytes_as_hold_them() {
        for (of, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (256, &[2, 2, 1, 0]),
            (-1, &[2, 1, 0xff]),
            (-128, &[2, 1, 0x80]),
            (-129, &[2, 2, 0xff, 0x7f]),
            (i64::from(i32::MAX), &[2, 4, 0x7f, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(integer(of), bytes, "{of}");
        }
        assert_eq!(unsigned(u32::MAX), [0, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn identifiers_are_in_base_128() {
        assert_eq!(identifier(&[1, 3, 6, 1]), [6, 3, 0x2b, 6, 1]);
        assert_eq!(identifier(&[2, 100, 3]), [6, 3, 0x81, 0x34, 3], "the example of X.690, 8.19.5");
        assert_eq!(identifier(&[1, 3, 8072, 9999, 0]), [6, 6, 0x2b, 0xbf, 0x08, 0xce, 0x0f, 0]);
        assert_eq!(identifier(&[1, 3, u32::MAX]), [6, 6, 0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f]);
    }

    #[test]
    fn lengths_from_128_on_take_the_long_form() {
        assert_eq!(value(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(value(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(value(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }
}
