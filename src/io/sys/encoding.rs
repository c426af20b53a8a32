//! Addresses and control data as the kernel writes them: bytes in, bytes out.

#![deny(unsafe_code)]

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::c_int;

/// The bytes of `sockaddr_in6`, the larger of the two we know.
pub(in crate::io) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Room for control data of one message, either way. Out: TTL 24, TOS 24, PKTINFO 40, UDP_SEGMENT 24.
/// In: time stamp 32, overflow 24, GRO size 24, PKTINFO 40.
pub(in crate::io) const CONTROL_BYTES: usize = 120;

/// A socket address as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(in crate::io) struct Name {
    pub(super) bytes: [u8; NAME_BYTES],
    pub(super) len: u32,
}

impl Name {
    pub(super) const EMPTY: Self = Self { bytes: [0; NAME_BYTES], len: 0 };

    /// For a socket of both families: an IPv4 address as the IPv6 one that stands for it.
    pub(in crate::io) fn mapped(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(a) => Self::new(SocketAddrV6::new(a.ip().to_ipv6_mapped(), a.port(), 0, 0).into()),
            SocketAddr::V6(_) => Self::new(address),
        }
    }

    pub(in crate::io) fn new(address: SocketAddr) -> Self {
        let mut name = Self::EMPTY;
        let b = &mut name.bytes;
        match address {
            SocketAddr::V4(a) => {
                b[..2].copy_from_slice(&(libc::AF_INET as libc::sa_family_t).to_ne_bytes());
                b[2..4].copy_from_slice(&a.port().to_be_bytes());
                b[4..8].copy_from_slice(&a.ip().octets());
                name.len = size_of::<libc::sockaddr_in>() as u32;
            }
            SocketAddr::V6(a) => {
                b[..2].copy_from_slice(&(libc::AF_INET6 as libc::sa_family_t).to_ne_bytes());
                b[2..4].copy_from_slice(&a.port().to_be_bytes());
                b[4..8].copy_from_slice(&a.flowinfo().to_ne_bytes());
                b[8..24].copy_from_slice(&a.ip().octets());
                b[24..28].copy_from_slice(&a.scope_id().to_ne_bytes());
                name.len = NAME_BYTES as u32;
            }
        }
        name
    }

    /// The address in the first `len` bytes; a v4-mapped one as the IPv4 address it is.
    pub(super) fn address(&self, len: usize) -> Option<SocketAddr> {
        let b = self.bytes.get(..len)?;
        let port = u16::from_be_bytes(array(b, 2)?);
        match c_int::from(libc::sa_family_t::from_ne_bytes(array(b, 0)?)) {
            libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(array::<4>(b, 4)?), port).into()),
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(array::<16>(b, 8)?);
                Some(match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddrV4::new(v4, port).into(),
                    None => SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(array(b, 24)?)).into(),
                })
            }
            _ => None,
        }
    }
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Control data of one message: a row of `cmsghdr`, each with its data, aligned as the kernel wants.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(in crate::io) struct Control {
    pub(super) bytes: [u8; CONTROL_BYTES],
    pub(super) len: usize,
}

impl Control {
    pub(super) const HEADER: usize = size_of::<libc::cmsghdr>();
    pub(in crate::io) const EMPTY: Self = Self { bytes: [0; CONTROL_BYTES], len: 0 };

    /// Adds one control message. There is room for all that we send.
    fn push(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let len = Self::HEADER + data.len();
        let space = len.next_multiple_of(size_of::<usize>());
        let Some(b) = self.bytes.get_mut(self.len..self.len + space) else {
            debug_assert!(false, "control data does not fit");
            return;
        };
        const WORD: usize = size_of::<usize>();
        b[..WORD].copy_from_slice(&len.to_ne_bytes());
        b[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        b[WORD + 4..WORD + 8].copy_from_slice(&kind.to_ne_bytes());
        b[Self::HEADER..len].copy_from_slice(data);
        self.len += space;
    }

    /// IP_TTL or IPV6_HOPLIMIT, 1 to 255.
    pub(in crate::io) fn push_ttl(&mut self, v6: bool, ttl: u8) {
        let (level, kind) =
            if v6 { (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) } else { (libc::IPPROTO_IP, libc::IP_TTL) };
        self.push(level, kind, &c_int::from(ttl).to_ne_bytes());
    }

    /// IP_TOS or IPV6_TCLASS, the whole octet.
    pub(in crate::io) fn push_tos(&mut self, v6: bool, tos: u8) {
        let (level, kind) = if v6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
        self.push(level, kind, &c_int::from(tos).to_ne_bytes());
    }

    /// IP_PKTINFO or IPV6_PKTINFO: the interface to leave by (0: the route's) and the address to come from
    /// (unspecified, of the destination's family: the route's).
    pub(in crate::io) fn push_packet_info(&mut self, index: u32, source: IpAddr) {
        match source {
            IpAddr::V6(source) => {
                let mut info = [0; size_of::<libc::in6_pktinfo>()];
                info[..16].copy_from_slice(&source.octets());
                info[16..].copy_from_slice(&index.to_ne_bytes());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            IpAddr::V4(source) => {
                let mut info = [0; size_of::<libc::in_pktinfo>()];
                info[..4].copy_from_slice(&index.to_ne_bytes());
                info[4..8].copy_from_slice(&source.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
        }
    }

    /// UDP_SEGMENT: the kernel cuts the message into datagrams of `size` bytes.
    pub(in crate::io) fn push_segment(&mut self, size: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
    }

    /// Takes back what [`push_segment`](Self::push_segment) added last.
    pub(in crate::io) fn pop_segment(&mut self) {
        self.len = self.len.saturating_sub((Self::HEADER + size_of::<u16>()).next_multiple_of(size_of::<usize>()));
    }
}

/// One control message that was received.
pub(super) struct ControlMessage<'a> {
    pub(super) level: c_int,
    pub(super) kind: c_int,
    pub(super) data: &'a [u8],
}

/// The control messages in `bytes`; ends at the first that is malformed.
pub(super) fn control_messages(mut bytes: &[u8]) -> impl Iterator<Item = ControlMessage<'_>> {
    const WORD: usize = size_of::<usize>();
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(array(bytes, 0)?);
        let level = c_int::from_ne_bytes(array(bytes, WORD)?);
        let kind = c_int::from_ne_bytes(array(bytes, WORD + 4)?);
        let data = bytes.get(Control::HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(WORD)..).unwrap_or_default();
        Some(ControlMessage { level, kind, data })
    })
}

/// What the kernel says of a received message beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::io) struct Notes {
    /// Length of the datagrams that GRO made one of; 0: it is one.
    pub(in crate::io) stride: usize,
    /// SO_TIMESTAMPNS: nanoseconds of realtime since 1970.
    pub(in crate::io) stamp: Option<u64>,
    /// SO_RXQ_OVFL: datagrams dropped since the socket was made, wrapping; not there before the first.
    pub(in crate::io) overflow: Option<u32>,
    /// IP_PKTINFO, IPV6_PKTINFO: the address of this host it came to.
    pub(in crate::io) local: Option<IpAddr>,
}

impl Notes {
    pub(super) fn read(control: &[u8]) -> Self {
        let mut notes = Self::default();
        for m in control_messages(control) {
            match (m.level, m.kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    notes.stride =
                        array(m.data, 0).map_or(0, |b| usize::try_from(c_int::from_ne_bytes(b)).unwrap_or(0));
                }
                (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => {
                    let s = array(m.data, 0).map(libc::time_t::from_ne_bytes);
                    let ns = array(m.data, size_of::<libc::time_t>()).map(libc::c_long::from_ne_bytes);
                    notes.stamp =
                        s.zip(ns).map(|(s, ns)| (s as u64).wrapping_mul(1_000_000_000).wrapping_add(ns as u64));
                }
                // ipi_spec_dst: of a broadcast or multicast, the address to answer from.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    notes.local = array::<4>(m.data, 4).map(|b| Ipv4Addr::from(b).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    notes.local = array::<16>(m.data, 0).map(|b| IpAddr::from(Ipv6Addr::from(b)).to_canonical());
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => notes.overflow = array(m.data, 0).map(u32::from_ne_bytes),
                _ => {}
            }
        }
        notes
    }
}
