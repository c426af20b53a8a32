//! The addresses that RTCP comes from, by number.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::io::batch::Target;
use crate::io::endpoint::Endpoint;
use crate::proto::rist::RemoteId;
use crate::time::Instant;

/// Most that are known at a time: beyond that, the one that was silent longest is forgotten.
const MOST: usize = 32;

/// Known addresses. A number never comes again: what goes to one that is forgotten is not sent.
#[derive(Default)]
pub(super) struct Remotes {
    known: Vec<Remote>,
    next: u32,
}

struct Remote {
    id: RemoteId,
    address: SocketAddr,
    /// The address of this host that it sends to: it is answered from there.
    local: Option<IpAddr>,
    target: Target,
    heard: Instant,
}

/// The same, as they are handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RemotesState {
    known: Vec<(RemoteId, SocketAddr, Option<IpAddr>, Instant)>,
    next: u32,
}

impl Remotes {
    pub(super) fn into_state(self) -> RemotesState {
        let known = self.known.iter().map(|known| (known.id, known.address, known.local, known.heard)).collect();
        RemotesState { known, next: self.next }
    }

    /// Those that answer by this endpoint.
    pub(super) fn resumed(RemotesState { known, next }: RemotesState, endpoint: &Endpoint) -> Self {
        let known = known.into_iter().map(|(id, address, local, heard)| {
            let target = Target::from_endpoint(endpoint, address, local, (None, 0));
            Remote { id, address, local, target, heard }
        });
        Self { known: known.collect(), next }
    }

    fn number(&mut self) -> RemoteId {
        let id = RemoteId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    /// The number of an address that was heard.
    pub(super) fn hear(
        &mut self,
        endpoint: &Endpoint,
        address: SocketAddr,
        local: Option<IpAddr>,
        now: Instant,
    ) -> RemoteId {
        if let Some(at) = self.known.iter().position(|known| known.address == address && known.local == local) {
            self.known[at].heard = now;
            return self.known[at].id;
        }
        if self.known.len() >= MOST
            && let Some((at, _)) = self.known.iter().enumerate().min_by_key(|(_, known)| known.heard)
        {
            self.known.swap_remove(at);
        }
        let (id, target) = (self.number(), Target::from_endpoint(endpoint, address, local, (None, 0)));
        self.known.push(Remote { id, address, local, target, heard: now });
        id
    }

    /// Where to send what is for this number.
    pub(super) fn target(&self, id: RemoteId) -> Option<&Target> {
        self.known.iter().find(|known| known.id == id).map(|known| &known.target)
    }

    /// How many were heard within this time.
    pub(super) fn heard_within(&self, span: Duration, now: Instant) -> usize {
        self.known.iter().filter(|known| now.saturating_duration_since(known.heard) < span).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::endpoint::{EndpointSpec, open_endpoint};

    #[test]
    fn a_number_is_of_one_address_for_ever_and_a_flood_forgets_whom_nobody_hears() {
        let bind = "127.0.0.1:0".parse().unwrap();
        let (receive_buffer, send_buffer) = (1 << 16, 1 << 16);
        let spec = EndpointSpec {
            bind,
            dual_stack: false,
            interface: None,
            local_addresses: true,
            receive_buffer,
            send_buffer,
        };
        let endpoint = open_endpoint(&spec).unwrap();
        let (mut remotes, start) = (Remotes::default(), Instant::now());
        let address = |n: u16| SocketAddr::new("192.0.2.1".parse().unwrap(), n);
        let at = |n: u16| start + Duration::from_millis(n.into());
        let ours = remotes.hear(&endpoint, address(1), None, at(0));
        let silent = remotes.hear(&endpoint, address(2), None, at(0));
        for n in 3..1000 {
            assert_eq!(remotes.hear(&endpoint, address(1), None, at(n)), ours);
            assert_ne!(remotes.hear(&endpoint, address(n), None, at(n)), silent);
        }
        assert_eq!(remotes.target(ours).map(Target::address), Some(address(1)));
        assert!(remotes.target(silent).is_none() && remotes.known.len() == MOST);
        assert_ne!(remotes.hear(&endpoint, address(2), None, at(1000)), silent, "nobody gets what was for another");
        assert_eq!(remotes.heard_within(Duration::from_millis(3), at(1001)), 3);
    }
}
