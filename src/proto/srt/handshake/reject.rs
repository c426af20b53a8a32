//! Why a connection is refused: the codes of libsrt, on the wire and in words.

use std::fmt;

/// What is added to a code on the wire.
const WIRE: u32 = 1000;
/// Codes of an application, as libsrt's `access_control.h` defines them, begin here.
const PREDEFINED: u32 = 1000;
/// Codes that only the two ends understand begin here.
const USER: u32 = 2000;

/// A reason to refuse a connection.
///
/// Its [`Display`](fmt::Display) is the reason in words, without the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// 0, and any code that is not known here.
    Unknown,
    /// 1.
    System,
    /// 2.
    Peer,
    /// 3; also what libsrt's `srt_listen_callback` gives when it gives no reason.
    Resource,
    /// 4.
    Rogue,
    /// 5.
    Backlog,
    /// 6.
    Internal,
    /// 7.
    Close,
    /// 8.
    Version,
    /// 9.
    RendezvousCookie,
    /// 10.
    BadSecret,
    /// 11.
    Unsecure,
    /// 12.
    MessageApi,
    /// 13.
    Congestion,
    /// 14.
    Filter,
    /// 15.
    Group,
    /// 16.
    Timeout,
    /// 17.
    Crypto,
    /// 1000 and this number, which is below 1000 and follows HTTP where it can.
    Predefined(u16),
    /// 2000 and this number.
    User(u32),
}

impl Reject {
    /// 1400: the stream ID is not as it should be.
    pub const BAD_REQUEST: Self = Self::Predefined(400);
    /// 1401: unknown, or not who it says.
    pub const UNAUTHORIZED: Self = Self::Predefined(401);
    /// 1402: too many already.
    pub const OVERLOAD: Self = Self::Predefined(402);
    /// 1403: known, but not allowed.
    pub const FORBIDDEN: Self = Self::Predefined(403);
    /// 1404: what is asked for does not exist.
    pub const NOT_FOUND: Self = Self::Predefined(404);
    /// 1405: not to be had in this direction.
    pub const BAD_MODE: Self = Self::Predefined(405);
    /// 1409: somebody else publishes there.
    pub const CONFLICT: Self = Self::Predefined(409);
    /// 1503: not in service now.
    pub const DOWN: Self = Self::Predefined(503);

    /// The codes below 18, in order.
    const INTERNAL: [Self; 18] = [
        Self::Unknown,
        Self::System,
        Self::Peer,
        Self::Resource,
        Self::Rogue,
        Self::Backlog,
        Self::Internal,
        Self::Close,
        Self::Version,
        Self::RendezvousCookie,
        Self::BadSecret,
        Self::Unsecure,
        Self::MessageApi,
        Self::Congestion,
        Self::Filter,
        Self::Group,
        Self::Timeout,
        Self::Crypto,
    ];

    /// The number as libsrt's API and logs have it: 10 for a wrong passphrase, 1403 for forbidden.
    pub fn code(self) -> u32 {
        match self {
            Self::Predefined(code) => PREDEFINED + u32::from(code) % (USER - PREDEFINED),
            Self::User(code) => USER.saturating_add(code).min(i32::MAX.cast_unsigned() - WIRE),
            other => (0..).zip(Self::INTERNAL).find(|(_, reject)| *reject == other).map_or(0, |(code, _)| code),
        }
    }

    /// The type of the handshake packet that says so: 1010 for a wrong passphrase, 2403 for forbidden.
    pub fn wire(self) -> u32 {
        WIRE + self.code()
    }

    /// Read the type of a handshake packet; `None`: it is no refusal.
    pub(super) fn from_wire(word: u32) -> Option<Self> {
        // The types are signed: the greatest are those of a conclusion and an agreement.
        let code = word.checked_sub(WIRE).filter(|_| word.cast_signed() > 0)?;
        Some(match code {
            USER.. => Self::User(code - USER),
            // Below 1000.
            PREDEFINED.. => Self::Predefined((code - PREDEFINED) as u16),
            _ => Self::INTERNAL.get(code as usize).copied().unwrap_or(Self::Unknown),
        })
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no reason is given",
            Self::System => "a system call failed",
            Self::Peer => "the application does not want it",
            Self::Resource => "resources are missing, or the application does not want it",
            Self::Rogue => "the handshake is malformed",
            Self::Backlog => "too many connections wait to be accepted",
            Self::Internal => "internal error",
            Self::Close => "the listener is closing",
            Self::Version => "the SRT version is not supported",
            Self::RendezvousCookie => "both ends of the rendezvous drew the same cookie",
            Self::BadSecret => "the passphrase is wrong",
            Self::Unsecure => "one end has a passphrase, the other has none",
            Self::MessageApi => "one end sends messages, the other a stream: live and file mode do not mix",
            Self::Congestion => "the congestion control differs",
            Self::Filter => "the packet filters do not match",
            Self::Group => "groups (bonding) do not match",
            Self::Timeout => "it took too long",
            Self::Crypto => "the cipher modes differ",
            Self::Predefined(0) => "the application refuses it",
            Self::Predefined(1) => "a key of the stream ID is not supported",
            Self::Predefined(2) => "there is no such file",
            Self::Predefined(3) => "the host in the stream ID is not known",
            Self::Predefined(400) => "the stream ID is malformed",
            Self::Predefined(401) => "not authorized",
            Self::Predefined(402) => "too many sessions, or no credit left",
            Self::Predefined(403) => "access is forbidden",
            Self::Predefined(404) => "there is no such resource",
            Self::Predefined(405) => "the resource is not to be had in this mode",
            Self::Predefined(406) => "the requested parameters cannot be met",
            Self::Predefined(409) => "the resource is in use",
            Self::Predefined(415) => "the type of media is not supported",
            Self::Predefined(423) => "the resource is locked",
            Self::Predefined(424) => "the session it depends on is gone",
            Self::Predefined(500) => "internal error of the application",
            Self::Predefined(501) => "not implemented",
            Self::Predefined(502) => "refused behind the gateway",
            Self::Predefined(503) => "out of service",
            Self::Predefined(505) => "the application does not support this version of SRT",
            Self::Predefined(507) => "no room to store the stream",
            Self::Predefined(code) => return write!(f, "code {} of the application", 1000 + u32::from(*code)),
            Self::User(code) => return write!(f, "code {} of the application", 2000 + u64::from(*code)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_have_the_numbers_of_libsrt() {
        assert_eq!((Reject::Unknown.wire(), Reject::Rogue.wire(), Reject::Version.wire()), (1000, 1004, 1008));
        assert_eq!((Reject::BadSecret.wire(), Reject::Unsecure.wire()), (0x3F2, 0x3F3));
        assert_eq!((Reject::MessageApi.wire(), Reject::Crypto.wire()), (1012, 1017));
        assert_eq!((Reject::UNAUTHORIZED.code(), Reject::UNAUTHORIZED.wire()), (1401, 2401));
        assert_eq!((Reject::User(5).code(), Reject::User(5).wire()), (2005, 3005));
    }

    #[test]
    fn only_types_of_1000_and_above_refuse() {
        for word in [0, 1, 2, 999, 0xFFFF_FFFF, 0xFFFF_FFFE, 0x8000_0000] {
            assert_eq!(Reject::from_wire(word), None, "{word}");
        }
        assert_eq!(Reject::from_wire(1000), Some(Reject::Unknown));
        assert_eq!(Reject::from_wire(1017), Some(Reject::Crypto));
        assert_eq!(Reject::from_wire(1018), Some(Reject::Unknown), "a code of the future");
        assert_eq!(Reject::from_wire(2403), Some(Reject::FORBIDDEN));
        assert_eq!(Reject::from_wire(3000), Some(Reject::User(0)));
    }

    #[test]
    fn every_code_has_words_of_its_own() {
        assert_eq!(Reject::BadSecret.to_string(), "the passphrase is wrong");
        assert_eq!(Reject::Predefined(418).to_string(), "code 1418 of the application");
        assert_eq!(Reject::User(5).to_string(), "code 2005 of the application");
        let words: std::collections::HashSet<_> = Reject::INTERNAL.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), Reject::INTERNAL.len());
    }

    proptest! {
        #[test]
        fn codes_are_read_as_written(word in 1000_u32..=0x7FFF_FFFF) {
            let reject = Reject::from_wire(word).unwrap();
            if reject != Reject::Unknown {
                prop_assert_eq!(reject.wire(), word);
            }
        }
    }
}
