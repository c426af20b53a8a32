//! The appliance as a whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::alarm::{AlarmPlan, Builtin, NotifierPlan};
use super::entitlement::EntitlementPort;
use crate::config::secrets::KeyFile;
use crate::config::value::{CpuList, Destination, Gather, Interface};

/// The appliance: what `mediaconnect.toml` says, with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonPlan {
    /// `[log]`.
    pub log: LogPlan,
    /// `[http]`.
    pub http: HttpPlan,
    /// `[control]`.
    pub control: ControlPlan,
    /// `[networks.*]`.
    pub networks: BTreeMap<String, Interface>,
    /// `[defaults] gather`.
    pub gather: Gather,
    /// `[limits]`.
    pub limits: Limits,
    /// `[entitlements]`; `None`: nobody can call for an entitlement.
    pub entitlements: Option<EntitlementPort>,
    /// `[alarms.*]`, and those that are built in.
    pub alarms: BTreeMap<String, AlarmPlan>,
    /// `[notifiers.*]`.
    pub notifiers: BTreeMap<String, NotifierPlan>,
}

impl Default for DaemonPlan {
    /// What an empty or missing `mediaconnect.toml` means.
    fn default() -> Self {
        Self {
            log: LogPlan {
                level: "info".into(),
                targets: Vec::new(),
                syslog: SyslogPlan {
                    server: SyslogServer::Path("/dev/log".into()),
                    format: SyslogFormat::Rfc3164,
                    facility: 3,
                },
            },
            http: HttpPlan {
                listen: vec![SocketAddr::from(([127, 0, 0, 1], 9740))],
                tag_labels: Vec::new(),
                token: None,
                tls: None,
            },
            control: ControlPlan { operators: "mediaconnect-operators".into(), readers: None },
            networks: BTreeMap::new(),
            gather: Gather::Auto,
            limits: Limits { max_flows: 1000, max_outputs_per_flow: 500, workers: 0, worker_cpus: CpuList::default() },
            entitlements: None,
            alarms: Builtin::plans(),
            notifiers: BTreeMap::new(),
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlan {
    /// A level or a filter such as `info,mediaconnect::flow=debug`.
    pub level: String,
    /// Where lines go; empty: the journal where systemd started us, else stderr.
    pub targets: Vec<LogTarget>,
    /// For `LogTarget::Syslog`.
    pub syslog: SyslogPlan,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogTarget {
    /// The systemd journal, by its native protocol.
    Journal,
    /// `[log.syslog]`.
    Syslog,
    /// Standard error.
    Stderr,
}

/// `[log.syslog]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogPlan {
    /// Who takes the lines.
    pub server: SyslogServer,
    /// The line's form.
    pub format: SyslogFormat,
    /// The facility's code, 0 to 23 (RFC 5424, table 1); 3 is `daemon`.
    pub facility: u8,
}

/// Who takes syslog lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogServer {
    /// A local socket such as `/dev/log`.
    Path(std::path::PathBuf),
    /// A datagram a line.
    Udp(Destination),
    /// Octet-counted lines (RFC 6587).
    Tcp(Destination),
}

/// The form of a syslog line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyslogFormat {
    /// BSD syslog; for a path the local form, without a host name.
    Rfc3164,
    /// With structured data.
    Rfc5424,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPlan {
    /// Addresses of the read-only listener; empty: off.
    pub listen: Vec<SocketAddr>,
    /// Flow tags that become metric labels, in the order of the file.
    pub tag_labels: Vec<TagLabel>,
    /// What readers must send; `None`: anybody reads.
    pub token: Option<KeyFile>,
    /// `None`: no TLS.
    pub tls: Option<TlsPlan>,
}

/// `tls` of `[http]`; the two belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPlan {
    /// A chain of certificates, in PEM.
    pub certificate: KeyFile,
    /// In PEM.
    pub key: KeyFile,
}

/// A flow's tag as a label of its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagLabel {
    /// As in the `tags` of flows.
    pub tag: String,
    /// `tag_` and the tag, with `_` for what a label can't have.
    pub label: String,
}

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlan {
    /// The group that may act.
    pub operators: String,
    /// The group that may read; `None`: everyone.
    pub readers: Option<String>,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most flow files.
    pub max_flows: usize,
    /// Most outputs of one flow.
    pub max_outputs_per_flow: usize,
    /// Data-plane threads; 0: one for each of `worker_cpus`, or without these one a core.
    pub workers: usize,
    /// Where the data-plane threads run, in turn; empty: wherever the kernel likes.
    pub worker_cpus: CpuList,
}

impl Limits {
    /// How many data-plane threads there are on a host with so many cores.
    pub fn threads(&self, cores: usize) -> usize {
        match (self.workers, self.worker_cpus.0.len()) {
            (0, 0) => cores.max(1),
            (0, cpus) => cpus,
            (workers, _) => workers,
        }
    }

    /// The CPU of the data-plane thread `number`, from 0; `None`: any.
    pub fn cpu_of(&self, number: usize) -> Option<u16> {
        self.worker_cpus.0.iter().copied().cycle().nth(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_cpus_go_together() {
        let limits = |workers, cpus: &str| Limits {
            workers,
            worker_cpus: cpus.parse().unwrap_or_default(),
            ..DaemonPlan::default().limits
        };
        assert_eq!((limits(0, "").threads(8), limits(0, "").cpu_of(3)), (8, None));
        assert_eq!((limits(3, "").threads(8), limits(3, "").cpu_of(0)), (3, None));
        let one_each = limits(0, "2-3,6");
        assert_eq!((one_each.threads(8), [0, 1, 2].map(|n| one_each.cpu_of(n))), (3, [2, 3, 6].map(Some)));
        let more = limits(5, "6,2-3");
        assert_eq!((more.threads(8), [0, 1, 2, 3, 4].map(|n| more.cpu_of(n))), (5, [6, 2, 3, 6, 2].map(Some)));
    }
}
