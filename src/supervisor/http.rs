//! The listeners of `[http] listen`: opened, closed and retried as the plan says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::config::plan::{HttpPlan, TlsPlan};
use crate::observe::event::{Event, emit};
use crate::observe::http::{Tls, View, serve_tcp, server_config};

/// How long until an address that can't be bound is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// The listeners that run.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    tasks: BTreeMap<SocketAddr, JoinHandle<()>>,
    tls: Tls,
    /// What `tls` was made of.
    made_of: Option<TlsPlan>,
}

impl Listeners {
    /// Listen on the addresses of the plan. Those that can't be bound are in `failed` afterwards. Other TLS is for
    /// connections that begin.
    pub(super) fn apply(&mut self, plan: &HttpPlan, failed: &mut BTreeMap<SocketAddr, String>, view: &Rc<dyn View>) {
        let HttpPlan { listen: wanted, tls, .. } = plan;
        if *tls != self.made_of {
            let config = |tls: &TlsPlan| server_config(tls.certificate.secret().bytes(), tls.key.secret().bytes());
            match tls.as_ref().map(config).transpose() {
                Ok(config) => self.tls.set(config),
                Err(error) => {
                    // Never in clear instead.
                    self.tasks.values().for_each(JoinHandle::abort);
                    self.tasks.clear();
                    *failed = wanted.iter().map(|address| (*address, format!("TLS: {error}"))).collect();
                    return;
                }
            }
            self.made_of.clone_from(tls);
        }
        self.tasks.retain(|address, task| {
            let keep = wanted.contains(address);
            if !keep {
                task.abort();
            }
            keep
        });
        failed.retain(|address, _| wanted.contains(address));
        for &address in wanted {
            if self.tasks.contains_key(&address) {
                continue;
            }
            match bind(address) {
                Ok(listener) => {
                    failed.remove(&address);
                    emit(Event::HttpListening { address });
                    let task = tokio::task::spawn_local(serve_tcp(listener, view.clone(), self.tls.clone()));
                    self.tasks.insert(address, task);
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
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}
