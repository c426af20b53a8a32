//! Sockets that both send and receive, each for any number of peers: of protocols that have connections over UDP, or
//! whose receivers answer.
//!
//! Several threads may share the port of one: each has a socket of its own ([`open_beside`]), and a number in the
//! datagram says whose it is, so the kernel hands each to the thread that has the connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

use super::links::InterfaceRef;
use super::open::{
    OpenError, ReceiveSpec, Sender, bind_socket, datagram_socket, granted, set_receive_buffer, set_send_buffer,
    with_fallback,
};
use super::sys;

#[cfg(test)]
mod tests;

/// What an endpoint is to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointSpec {
    /// Address and port, never a group; port 0: one of the system's choice.
    pub bind: SocketAddr,
    /// With `bind` = `[::]:port`: IPv4 too, and only IPv4 on a host without IPv6.
    pub dual_stack: bool,
    /// Bound to it; `None`: the system's choice.
    pub interface: Option<InterfaceRef>,
    /// Datagrams come with the address of this host they came to. Not those of sockets beside the first.
    pub local_addresses: bool,
    /// Bytes of datagrams that may wait, as asked of the kernel.
    pub receive_buffer: usize,
    /// The same for those that wait for the interface.
    pub send_buffer: usize,
}

/// An open endpoint: datagrams come with their time stamps, and coalesced (UDP_GRO).
///
/// What ICMP says of one peer is not heard: it must not disturb the others, and a connection knows by itself when its
/// peer is silent.
#[derive(Debug)]
pub struct Endpoint {
    sender: Sender,
    granted: usize,
    v6: bool,
}

/// Which sockets of one port a datagram is for, by a number in it: 32 bits, big-endian, `offset` bytes into the UDP
/// payload. Without its low `shift` bits it is the place of a socket in the order they were opened, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    /// Bytes; a datagram that ends before is for the first socket.
    pub offset: u32,
    /// Bits.
    pub shift: u32,
}

impl Steering {
    fn program(self) -> [libc::sock_filter; 3] {
        let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        [
            // A datagram that is too short ends the program with 0.
            op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, self.offset),
            op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, self.shift),
            op(libc::BPF_RET | libc::BPF_A, 0),
        ]
    }
}

impl Endpoint {
    /// One that the process before this one opened.
    pub fn resume(fd: OwnedFd) -> Self {
        let sender = Sender::resume(fd);
        let v6 = sender.local_addr().is_ok_and(|address| address.is_ipv6());
        Self { granted: granted(&sender), sender, v6 }
    }

    /// To send from.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Bytes of receive buffer that the kernel granted.
    pub fn granted(&self) -> usize {
        self.granted
    }

    /// Whether the socket is an IPv6 one, which reaches IPv4 by mapped addresses.
    pub fn is_ipv6(&self) -> bool {
        self.v6
    }

    /// The address and port it is bound to.
    ///
    /// # Errors
    /// None in practice.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sender.local_addr()
    }
}

/// For datagrams in.
impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }
}

/// Opens and binds; no other socket may have the port.
///
/// # Errors
/// See [`OpenError`].
pub fn open_endpoint(spec: &EndpointSpec) -> Result<Endpoint, OpenError> {
    with_fallback(spec.bind, spec.dual_stack, |bind| open(spec, bind, false))
}

/// Opens, binds and joins as [`open_receiver`](super::open::open_receiver) does, for one who also answers. Datagrams come
/// with the address of this host they came to.
///
/// # Errors
/// See [`OpenError`].
pub fn open_answering(spec: &ReceiveSpec, send_buffer: usize) -> Result<Endpoint, OpenError> {
    with_fallback(spec.bind, spec.dual_stack, |bind| {
        let (socket, granted) = bind_socket(spec, bind)?;
        set_notes(&socket, bind.ip(), !bind.ip().is_multicast()).map_err(|e| OpenError::at_bind(bind, e))?;
        if spec.gro {
            // Without it each datagram comes alone.
            let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        }
        set_send_buffer(&socket, send_buffer);
        Ok(Endpoint { sender: Sender::new(socket), granted, v6: bind.is_ipv6() })
    })
}

/// Opens another socket for the port of `first`, which may have others already. From now on each datagram goes to the one
/// of them that it is steered to; until this returns, to any.
///
/// # Errors
/// See [`OpenError`].
pub fn open_beside(spec: &EndpointSpec, first: &Endpoint, steering: Steering) -> Result<Endpoint, OpenError> {
    let bind = first.local_addr().map_err(|e| OpenError::at_bind(spec.bind, e))?;
    let at = |e| OpenError::at_bind(bind, e);
    // Not before it was bound: then nobody else's socket can have been there.
    setsockopt(first.sender(), sockopt::ReusePort, &true).map_err(|e| at(e.into()))?;
    let endpoint = open(spec, bind, true)?;
    sys::set_reuseport_program(endpoint.as_fd(), &steering.program()).map_err(at)?;
    Ok(endpoint)
}

fn open(spec: &EndpointSpec, bind: SocketAddr, beside: bool) -> Result<Endpoint, OpenError> {
    let at = |e| OpenError::at_bind(bind, e);
    let socket = datagram_socket(bind).map_err(at)?;
    set_options(&socket, bind.ip(), spec.dual_stack, spec.local_addresses && !beside).map_err(at)?;
    if let Some(interface) = &spec.interface {
        socket
            .bind_device(Some(interface.name.as_bytes()))
            .map_err(|source| OpenError::at_interface(interface.clone(), source))?;
    }
    let granted = set_receive_buffer(&socket, spec.receive_buffer);
    set_send_buffer(&socket, spec.send_buffer);
    if beside {
        setsockopt(&socket, sockopt::ReusePort, &true).map_err(|e| at(e.into()))?;
    }
    socket.bind(&bind.into()).map_err(at)?;
    Ok(Endpoint { sender: Sender::new(socket), granted, v6: bind.is_ipv6() })
}

fn set_options(socket: &Socket, ip: IpAddr, dual_stack: bool, local_addresses: bool) -> io::Result<()> {
    if ip.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    set_notes(socket, ip, local_addresses)?;
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    // Without it each datagram comes alone.
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
    Ok(())
}

/// Whether datagrams come with the address of this host they came to.
fn set_notes(socket: &Socket, ip: IpAddr, local_addresses: bool) -> io::Result<()> {
    if ip.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &local_addresses)?;
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &local_addresses)?;
    }
    Ok(())
}
