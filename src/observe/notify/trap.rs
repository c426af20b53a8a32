//! A trap, sent. Nobody says whether it arrived.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{UdpSocket, lookup_host};

use super::Fault;
use crate::config::plan::TrapPlan;
use crate::config::value::Host;
use crate::observe::feed::Told;
use crate::observe::snmp::{self, Sender};
use crate::time::Instant;

pub(super) async fn send(to: &TrapPlan, told: &Told, up_since: Instant) -> Result<(), Fault> {
    let later = |error: std::io::Error| Fault::Later(format!("{}: {error}", to.target));
    let address = match &to.target.host {
        Host::Address(ip) => Some(SocketAddr::new(*ip, to.target.port)),
        Host::Name(name) => lookup_host((name.as_str(), to.target.port)).await.map_err(later)?.next(),
    };
    let address = address.ok_or_else(|| Fault::Later(format!("{} has no address", to.target)))?;
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(later)?;
    let sender = Sender { community: to.community.secret().bytes(), enterprise: &to.enterprise };
    // Both begin anew once they are over.
    let up_time = (up_since.elapsed().as_millis() / 10) as u32;
    let request = (told.number & 0x7fff_ffff) as i32;
    let datagram = snmp::trap(&sender, &told.doc, up_time, request);
    socket.send_to(&datagram, address).await.map(drop).map_err(later)
}
