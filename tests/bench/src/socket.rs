//! UDP sockets on loopback, and lists of ports.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

/// Bytes of datagrams that may wait to be sent.
const SEND_BUFFER: usize = 4 << 20;

/// Some ports, as an argument: `6001`, `6001,6005`, `6001+10` (ten from 6001 on), or several of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(pub Vec<u16>);

impl std::str::FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<u16>().map_err(|_| format!("`{part}` is no port"));
        let mut ports = Vec::new();
        for part in text.split(',') {
            let (first, count) = part.split_once('+').unwrap_or((part, "1"));
            let (first, count) = (number(first)?, number(count)?);
            let end = first.checked_add(count).ok_or_else(|| format!("`{part}` goes beyond the last port"))?;
            ports.extend(first..end);
        }
        Ok(Self(ports))
    }
}

/// That port of this machine.
pub const fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// A socket bound to a port of loopback (0: any), with room for so many bytes of datagrams that wait to be read.
///
/// # Panics
/// When it can't be had: these programs have nothing to do without it.
pub fn bind(port: u16, receive_buffer: usize) -> UdpSocket {
    try_bind(port, receive_buffer).unwrap_or_else(|error| panic!("port {port}: {error}"))
}

fn try_bind(port: u16, receive_buffer: usize) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    // Beyond net.core.rmem_max only as root.
    if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
        socket.set_recv_buffer_size(receive_buffer)?;
    }
    socket.bind(&loopback(port).into())?;
    Ok(socket.into())
}

/// Lets the kernel join datagrams that wait (UDP_GRO).
///
/// # Panics
/// When the kernel can't.
pub fn coalesce(socket: &UdpSocket) {
    setsockopt(socket, sockopt::UdpGroSegment, &true).unwrap_or_else(|error| panic!("UDP_GRO: {error}"));
}

/// Lets datagrams come with the time at which the kernel took them in.
///
/// # Panics
/// When the kernel can't.
pub fn stamp(socket: &UdpSocket) {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true).unwrap_or_else(|error| panic!("SO_TIMESTAMPNS: {error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_and_counted() {
        assert_eq!("7".parse(), Ok(Ports(vec![7])));
        assert_eq!("10,20+3,65535".parse(), Err::<Ports, _>("`65535` goes beyond the last port".into()));
        assert_eq!("10,20+3,65534".parse(), Ok(Ports(vec![10, 20, 21, 22, 65534])));
        assert_eq!("a".parse::<Ports>(), Err("`a` is no port".into()));
    }
}
