//! What each event says in the log.

use std::fmt;

use super::{ALARM, CONFIG, ENTITLEMENT, Event, SRT};
use crate::config::diagnostic;
use crate::config::value::FlowName;
use crate::observe::alarm::Alarm;
use crate::observe::text::{count, rate, rfc3339, span};

impl fmt::Display for Event {
    /// The line's text, in plain English, with its figures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DaemonStarted { version, flows, took } => {
                write!(f, "mediaconnect {version} started: {} in {}", count(*flows as u64, "flow"), span(*took))
            }
            Self::TakenOver { sockets, flows, sent_away, gap } => {
                let sockets = count(*sockets as u64, "socket");
                match gap {
                    Some(gap) => {
                        let (flows, gap) = (count(*flows as u64, "flow"), span(*gap));
                        write!(f, "{sockets} and {flows} of the process before this one are gone on with; ")?;
                        write!(f, "nothing was read for {gap}")?;
                    }
                    None => {
                        write!(f, "{sockets} of the process before this one, which was killed, are read on; ")?;
                        write!(f, "what it held is lost")?;
                    }
                }
                match *sent_away {
                    0 => Ok(()),
                    peers => write!(f, "; {} by SRT must connect again", count(peers as u64, "peer")),
                }
            }
            Self::StateUnreadable { error } => {
                write!(
                    f,
                    "what the process before this one left of its flows is not understood, and they begin anew: {error}"
                )
            }
            Self::DaemonStopping { why, flows } => {
                write!(f, "stopping on {why}: closing {}", count(*flows as u64, "flow"))
            }
            Self::HttpFailed { address, error, retry_in } => {
                write!(f, "[http] can't listen on {address}: {error}; next try in {}", span(*retry_in))
            }
            Self::AuditHead { head } => write!(f, "audit trail ends with {head}"),
            Self::AuditFailed { path, error } => {
                write!(
                    f,
                    "the audit trail {} can't be written: {error}; the relay goes on, and it is tried again",
                    path.display()
                )
            }
            Self::AuditBack { records } => write!(f, "the audit trail is written again; {records} records are lost"),
            Self::HttpTokenWrong { address } => {
                write!(f, "[http] refused {address}: it sent a token, and not the right one")
            }
            Self::HttpListening { address } => write!(f, "[http] listens on {address}"),
            Self::OperatorCommand { by, uid, command, error, .. } => match error {
                None => write!(f, "{by} (uid {uid}): {command}"),
                Some(error) => write!(f, "{by} (uid {uid}): {command}: refused: {error}"),
            },
            Self::OperatorDenied { by, uid, command } => {
                write!(f, "{by} (uid {uid}) is not one of those who may: {command}")
            }
            Self::Frozen { flow, by, until } => {
                write!(f, "{} frozen by {by} ", flow.as_ref().map_or("all flows", FlowName::as_str))?;
                match until {
                    Some(until) => write!(f, "until {}: changes of files wait", rfc3339(*until)),
                    None => f.write_str("until thawed: changes of files wait"),
                }
            }
            Self::Thawed { flow, by } => {
                let what = flow.as_ref().map_or("all flows", FlowName::as_str);
                write!(f, "{what} thawed by {by}: changes of files pass again")
            }
            Self::ShardStuck { shard, silent_for } => {
                write!(f, "data-plane thread {shard} has not answered for {}", span(*silent_for))
            }
            Self::WorkerUnpinned { cpu, error } => {
                write!(f, "a data-plane thread can't run on CPU {cpu} (`limits.worker-cpus`): {error}; it runs on any")
            }
            Self::NotifyFailed { error } => write!(f, "the service manager can't be told: {error}"),
            _ if self.kind().target == ALARM => self.alarm_text(f),
            _ if self.kind().target == CONFIG => self.config_text(f),
            _ if self.kind().target == SRT => self.srt_text(f),
            _ if self.kind().target == ENTITLEMENT => self.entitlement_text(f),
            _ => self.flow_text(f),
        }
    }
}

impl Event {
    fn config_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigApplied { generation, started, stopped, changed, rejected, took } => write!(
                f,
                "configuration {generation} applied in {}: {started} started, {stopped} stopped, {changed} changed, \
                 {rejected} rejected",
                span(*took)
            ),
            Self::ConfigDiagnostic { diagnostic: d } => {
                write!(f, "{}:", d.file.display())?;
                if d.line > 0 {
                    write!(f, "{}:{}:", d.line, d.column)?;
                }
                let word = if d.severity == diagnostic::Level::Error { "error" } else { "warning" };
                write!(f, " {word}: {}", d.message)?;
                d.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
            }
            Self::RestartNeeded { keys } => {
                write!(f, "{} changed: it takes effect when the daemon is restarted", keys.join(", "))
            }
            Self::ConfigStale { flow, file } => {
                write!(f, "{flow}: {} is rejected; its last good version runs on", file.display())
            }
            Self::ConfigRecovered { flow, file } => {
                write!(f, "{flow}: {} is accepted again", file.display())
            }
            Self::ConfigUnreadable { path, error } => {
                write!(f, "can't read {}: {error}; what runs goes on", path.display())
            }
            Self::ConfigReadable { path } => write!(f, "{} can be read again", path.display()),
            Self::WatchPolling { error, every } => write!(
                f,
                "no file notifications from the kernel ({error}): the files are looked at every {}; \
                 see fs.inotify.max_user_instances and max_user_watches",
                span(*every)
            ),
            Self::WatchBack => f.write_str("file notifications from the kernel work again"),
            _ => Ok(()),
        }
    }

    fn alarm_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |flow: &Option<FlowName>, alarm: &Alarm| {
            let flow = flow.as_ref().map_or("appliance", FlowName::as_str);
            let part = alarm.of.source().or(alarm.of.output());
            part.map_or_else(|| flow.to_owned(), |part| format!("{flow}/{part}"))
        };
        match self {
            Self::AlarmRaised { flow, alarm } => {
                write!(f, "{} alarm {}: {}", place(flow, alarm), alarm.name, alarm.message)
            }
            Self::AlarmCleared { flow, alarm, after } => {
                write!(f, "{} alarm {} is over after {}", place(flow, alarm), alarm.name, span(*after))
            }
            Self::NotifierFailed { notifier, error } => {
                write!(f, "notifier {notifier} can't tell: {error}; it is tried again, and what is to be told waits")
            }
            Self::NotifierBack { notifier, after } => {
                write!(f, "notifier {notifier} tells again after {}", span(*after))
            }
            Self::NotifierDropped { notifier, count: dropped, why } => {
                write!(f, "notifier {notifier}: {} not told: {why}", count(*dropped, "event"))
            }
            _ => Ok(()),
        }
    }

    fn srt_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SrtConnected { flow, part, peer, terms } => {
                write!(f, "{flow}/{part} is connected to {peer}: {terms}")
            }
            Self::SrtEnded { flow, part, peer, why, .. } => {
                write!(f, "{flow}/{part} connection to {peer} ended: {why}")
            }
            Self::SrtKeyUnconfirmed { flow, part, peer, why } => write!(f, "{flow}/{part} {peer}: {why}"),
            Self::SrtRefused { flow, part, peer, why, stream_id } => {
                write!(f, "{flow}/{part} call from {peer} refused: {why}")?;
                stream_id.as_ref().map_or(Ok(()), |id| write!(f, " (stream ID {id:?})"))
            }
            Self::SrtCallFailed { flow, part, remote, why } => {
                write!(f, "{flow}/{part} no connection to {remote}: {why}; it is called again")
            }
            _ => Ok(()),
        }
    }

    fn entitlement_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EntitlementOpened { flow, entitlement, subscriber, peer, terms } => {
                write!(f, "{flow}/{entitlement} subscriber {subscriber} is connected from {peer}: {terms}")
            }
            Self::EntitlementClosed { flow, entitlement, subscriber, peer, why, lasted, bytes } => write!(
                f,
                "{flow}/{entitlement} session of subscriber {subscriber} at {peer} ended: {why}; {bytes} bytes in {}",
                span(*lasted)
            ),
            Self::EntitlementRefused { flow, entitlement, subscriber, peer, code, why, stream_id, .. } => {
                match (flow, entitlement) {
                    (Some(flow), Some(entitlement)) => write!(f, "{flow}/{entitlement} ")?,
                    _ => f.write_str("entitlements: ")?,
                }
                let who = subscriber.as_ref().map_or_else(String::new, |name| format!(" as subscriber {name}"));
                write!(f, "call from {peer}{who} refused: {why} ({code})")?;
                stream_id.as_ref().map_or(Ok(()), |id| write!(f, " (stream ID {id:?})"))
            }
            Self::EntitlementsFailed { bind, error, retry_in } => {
                write!(f, "[entitlements] can't listen on {bind}: {error}; next try in {}", span(*retry_in))
            }
            Self::EntitlementsListening { bind } => write!(f, "[entitlements] listens on {bind}"),
            Self::AccountsUnwritten { path, error } => {
                write!(
                    f,
                    "{} can't be written: {error}; the relay goes on, and what subscribers get is kept in memory",
                    path.display()
                )
            }
            Self::AccountsWritten { path } => write!(f, "{} can be written again", path.display()),
            _ => Ok(()),
        }
    }

    fn flow_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlowStarted { flow, sources, outputs } => {
                write!(f, "{flow} started: {}, {}", count(*sources as u64, "source"), count(*outputs as u64, "output"))
            }
            Self::FlowStopped { flow, why } => write!(f, "{flow} stopped: {why}"),
            Self::FlowChanged { flow, what } => write!(f, "{flow} changed: {what}"),
            Self::FlowPanicked { flow, message, count, retry_in } => write!(
                f,
                "{flow} failed by a fault of mediaconnect (number {count}): {message}; started again in {}",
                span(*retry_in)
            ),
            Self::SourceReceiving { flow, source, from } => write!(f, "{flow}/{source} receives from {from}"),
            Self::SourceLost { flow, source, silent_for, bitrate_bps, covered } => {
                let (silent, before) = (span(*silent_for), rate(*bitrate_bps));
                let end = if *covered { "; the flow goes on without it" } else { "" };
                write!(f, "{flow}/{source} lost: nothing for {silent}, {before} before{end}")
            }
            Self::SourceOnAir { flow, source } => write!(f, "{flow}/{source} is on air"),
            Self::Switched { flow, from, to, why, gap } => {
                let from = from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
                write!(f, "{flow} switched{from} to {to}: {why} (gap {} ms)", gap.as_millis())
            }
            Self::LegsNotIdentical { flow, source } => {
                write!(f, "{flow}/{source} carries other packets than the other legs of the merge: it is set aside")
            }
            Self::LegRejoined { flow, source } => {
                write!(f, "{flow}/{source} carries the same packets as the other legs again: it takes part")
            }
            Self::SourceBack { flow, source, after } => write!(f, "{flow}/{source} is back after {}", span(*after)),
            Self::SourceFailed { flow, source, error, retry_in } => {
                write!(f, "{flow}/{source} can't be opened: {error}; next try in {}", span(*retry_in))
            }
            Self::SourceOpened { flow, source, after } => {
                write!(f, "{flow}/{source} is open after {}", span(*after))
            }
            Self::StreamRestarted { flow, source, why } => write!(f, "{flow}/{source} stream began anew: {why}"),
            Self::ReceiveBufferSmall { flow, source, asked, granted } => write!(
                f,
                "{flow}/{source} receive buffer is {granted} of {asked} bytes asked; raise it with \
                 sysctl net.core.rmem_max={asked}"
            ),
            Self::ContentFault { flow, finding } => write!(f, "{flow} {}: {finding}", finding.fault.name()),
            Self::ContentBack { flow, fault, after } => {
                write!(f, "{flow} {} is over after {}", fault.name(), span(*after))
            }
            Self::ThumbnailFailed { flow, error } => {
                write!(f, "{flow} nobody looks at its pictures and sound: {error}; it is tried again")
            }
            Self::ThumbnailBack { flow, after } => {
                write!(f, "{flow} its pictures and sound are looked at again after {}", span(*after))
            }
            Self::OutputFailed { flow, output, destination, error } => {
                write!(f, "{flow}/{output} can't send to {destination}: {error}; retried")
            }
            Self::OutputBack { flow, output, after, dropped } => {
                write!(f, "{flow}/{output} sends again after {}, {} dropped", span(*after), count(*dropped, "packet"))
            }
            _ => Ok(()),
        }
    }
}
