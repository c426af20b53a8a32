//! The listeners of `[http] listen`: opened, closed and retried as the plan says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::observe::event::{Event, emit};
use crate::observe::http::{View, serve_tcp};

/// How long until an address that can't be bound is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// The listeners that run.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<SocketAddr, JoinHandle<()>>);

impl Listeners {
    /// Make `wanted` the addresses that are listened on. Those that can't be bound are in `failed` afterwards.
    pub(super) fn apply(
        &mut self,
        wanted: &[SocketAddr],
        failed: &mut BTreeMap<SocketAddr, String>,
        view: &Rc<dyn View>,
    ) {
        self.0.retain(|address, task| {
            let keep = wanted.contains(address);
            if !keep {
                task.abort();
            }
            keep
        });
        failed.retain(|address, _| wanted.contains(address));
        for &address in wanted {
            if self.0.contains_key(&address) {
                continue;
            }
            match bind(address) {
                Ok(listener) => {
                    failed.remove(&address);
                    emit(Event::HttpListening { address });
                    self.0.insert(address, tokio::task::spawn_local(serve_tcp(listener, view.clone())));
                }
                Err(error) => {
                    let error = error.to_string();
                    if failed.insert(address, error.clone()).as_ref() != Some(&error) {
                        emit(Event::HttpFailed { address, error, retry_in: RETRY });
                    }
                }
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}
