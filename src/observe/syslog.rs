//! Lines to a syslog server: to a local socket at once, to a network server by a thread of its own that reconnects.

use crate::time::Instant;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::log::Record;
use super::stderr::timestamp;
use super::text::cut;
use crate::config::plan::{SyslogFormat, SyslogPlan, SyslogServer};
use crate::config::value::Destination;

/// Longest line; most receivers take 8 KiB (RFC 5424 section 6.1 asks for 480 bytes, advises 2048).
const LONGEST: usize = 8 * 1024;
/// Lines that wait for a server that is away; the oldest give way.
const WAITING: usize = 1000;
/// How long a connect or a write may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pauses between tries to reach a server: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// A name is resolved anew this often.
const RESOLVE: Duration = Duration::from_secs(60);

/// The sink.
pub(super) struct Syslog {
    plan: SyslogPlan,
    way: Way,
}

enum Way {
    Local { path: PathBuf, socket: UnixDatagram },
    Network { jobs: SyncSender<Job>, trouble: Arc<Mutex<Trouble>> },
}

/// What a network server's thread has to say.
#[derive(Default)]
struct Trouble {
    /// Why the server can't be reached now.
    fault: Option<String>,
    /// Lines that gave way to newer ones since this was last asked.
    lost: u64,
}

enum Job {
    Line(String),
    Flush(SyncSender<()>),
}

impl Syslog {
    pub(super) fn open(plan: &SyslogPlan) -> io::Result<Self> {
        let way = match &plan.server {
            SyslogServer::Path(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Way::Local { path: path.clone(), socket }
            }
            SyslogServer::Udp(to) => network(Link::Udp(None), to)?,
            SyslogServer::Tcp(to) => network(Link::Tcp(None), to)?,
        };
        Ok(Self { plan: plan.clone(), way })
    }

    pub(super) fn plan(&self) -> &SyslogPlan {
        &self.plan
    }

    /// The server as the configuration writes it.
    pub(super) fn server(&self) -> String {
        match &self.plan.server {
            SyslogServer::Path(path) => path.display().to_string(),
            SyslogServer::Udp(to) => format!("udp://{to}"),
            SyslogServer::Tcp(to) => format!("tcp://{to}"),
        }
    }

    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let line = format(record, &self.plan);
        match &self.way {
            Way::Local { path, socket } => {
                // To a path each time: a restart of the server heals by itself. A full queue is given a moment.
                let mut sent = socket.send_to(line.as_bytes(), path);
                for _ in 0..10 {
                    match &sent {
                        Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
                        _ => break,
                    }
                    sent = socket.send_to(line.as_bytes(), path);
                }
                sent.map(drop)
            }
            Way::Network { jobs, .. } => {
                jobs.try_send(Job::Line(line)).map_err(|_| io::Error::other("the server is too slow"))
            }
        }
    }

    /// Why lines wait for a network server, and how many gave way to newer ones since this was last asked.
    pub(super) fn trouble(&self) -> (Option<String>, u64) {
        match &self.way {
            Way::Local { .. } => (None, 0),
            Way::Network { trouble, .. } => {
                let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
                (trouble.fault.clone(), std::mem::take(&mut trouble.lost))
            }
        }
    }

    /// Wait until what was written has left, or `deadline`.
    pub(super) fn flush(&mut self, deadline: Instant) {
        if let Way::Network { jobs, .. } = &self.way {
            let (done, wait) = sync_channel(1);
            if jobs.try_send(Job::Flush(done)).is_ok() {
                // Past the deadline the lines are given up: the server has had its time.
                let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            }
        }
    }
}

/// One line, without its framing.
fn format(record: &Record, plan: &SyslogPlan) -> String {
    let priority = plan.facility * 8 + record.severity();
    let pid = std::process::id();
    let message = record.line();
    let line = match (plan.format, &plan.server) {
        (SyslogFormat::Rfc3164, SyslogServer::Path(_)) => {
            format!("<{priority}>{} mediaconnectd[{pid}]: {message}", local_time(record))
        }
        (SyslogFormat::Rfc3164, _) => {
            let host = hostname();
            let host = host.split('.').next().unwrap_or("-");
            format!("<{priority}>{} {host} mediaconnectd[{pid}]: {message}", local_time(record))
        }
        (SyslogFormat::Rfc5424, _) => format!(
            "<{priority}>1 {} {} mediaconnectd {pid} {} {} {message}",
            timestamp(record.time),
            hostname(),
            record.field("event").unwrap_or("-"),
            structured_data(record)
        ),
    };
    cut(&line, LONGEST).to_owned()
}

/// RFC 3164 section 4.1.2: local time, the day padded with a space.
fn local_time(record: &Record) -> String {
    let Ok(at) = jiff::Timestamp::try_from(record.time) else { return "Jan  1 00:00:00".to_owned() };
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%b %e %H:%M:%S").to_string()
}

/// The host's name as it is now; `-` is RFC 5424's nil value.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// RFC 5424 section 6.3. 32473 is the enterprise number that RFC 5612 sets aside for such use.
fn structured_data(record: &Record) -> String {
    if record.fields.is_empty() {
        return "-".to_owned();
    }
    let mut data = String::from("[mediaconnect@32473");
    for (name, value) in &record.fields {
        data.push(' ');
        data.extend(name.chars().filter(|c| c.is_ascii_graphic() && !"=]\"".contains(*c)).take(32));
        data.push_str("=\"");
        for c in value.chars() {
            match c {
                '"' | '\\' | ']' => data.extend(['\\', c]),
                c if c.is_control() => data.push(' '),
                c => data.push(c),
            }
        }
        data.push('"');
    }
    data.push(']');
    data
}

fn network(link: Link, to: &Destination) -> io::Result<Way> {
    let (jobs, work) = sync_channel(WAITING);
    let trouble = Arc::default();
    let mut courier = Courier { link, to: to.clone(), trouble: Arc::clone(&trouble), waiting: VecDeque::new() };
    thread::Builder::new().name("log-syslog".to_owned()).spawn(move || courier.run(&work))?;
    Ok(Way::Network { jobs, trouble })
}

/// A network server's thread: it may block, within limits, and nobody waits for it.
struct Courier {
    link: Link,
    to: Destination,
    trouble: Arc<Mutex<Trouble>>,
    waiting: VecDeque<String>,
}

impl Courier {
    /// Until the sink is closed; then one more try for what waits.
    fn run(&mut self, work: &Receiver<Job>) {
        let (mut backoff, mut next_try) = (BACKOFF.0, Instant::now());
        let mut flushes: Vec<SyncSender<()>> = Vec::new();
        loop {
            let pause = match self.waiting.is_empty() {
                true => RESOLVE,
                false => next_try.saturating_duration_since(Instant::now()),
            };
            let closing = match work.recv_timeout(pause) {
                Ok(Job::Line(line)) => {
                    if self.waiting.len() == WAITING {
                        self.waiting.pop_front();
                        self.trouble().lost += 1;
                    }
                    self.waiting.push_back(line);
                    false
                }
                Ok(Job::Flush(done)) => {
                    flushes.push(done);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if closing || Instant::now() >= next_try {
                match self.deliver() {
                    Ok(()) => {
                        (backoff, next_try) = (BACKOFF.0, Instant::now());
                        self.trouble().fault = None;
                    }
                    Err(error) => {
                        next_try = Instant::now() + backoff;
                        backoff = (backoff * 2).min(BACKOFF.1);
                        self.trouble().fault = Some(format!("{error}; the last {WAITING} lines wait"));
                    }
                }
            }
            if closing {
                return;
            }
            if self.waiting.is_empty() {
                for done in flushes.drain(..) {
                    // Who waits may have given up.
                    let _ = done.send(());
                }
            }
        }
    }

    fn deliver(&mut self) -> io::Result<()> {
        while let Some(line) = self.waiting.front() {
            self.link.send(line, &self.to)?;
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a network server; closed until it is used, and after any error.
enum Link {
    /// A datagram a line (RFC 5426). The socket, where it sends, and when that was resolved.
    Udp(Option<(UdpSocket, SocketAddr, Instant)>),
    /// Octet-counted lines (RFC 6587 section 3.4.1).
    Tcp(Option<TcpStream>),
}

impl Link {
    fn send(&mut self, line: &str, to: &Destination) -> io::Result<()> {
        match self {
            Self::Udp(link) => {
                let (socket, address, resolved) = match link.take() {
                    Some(open) if open.2.elapsed() < RESOLVE => open,
                    _ => open_udp(to)?,
                };
                socket.send_to(line.as_bytes(), address)?;
                *link = Some((socket, address, resolved));
            }
            Self::Tcp(link) => {
                let mut stream = match link.take() {
                    Some(stream) if is_open(&stream) => stream,
                    _ => open_tcp(to)?,
                };
                let mut frame = String::with_capacity(line.len() + 6);
                // Writing to a String cannot fail.
                let _ = write!(frame, "{} {line}", line.len());
                stream.write_all(frame.as_bytes())?;
                *link = Some(stream);
            }
        }
        Ok(())
    }
}

fn resolve(to: &Destination) -> io::Result<Vec<SocketAddr>> {
    Ok(match to.address() {
        Some(address) => vec![address],
        None => to.to_string().to_socket_addrs()?.collect(),
    })
}

fn open_udp(to: &Destination) -> io::Result<(UdpSocket, SocketAddr, Instant)> {
    let none = || io::Error::new(ErrorKind::NotFound, format!("{to} has no address"));
    let address = resolve(to)?.into_iter().next().ok_or_else(none)?;
    let socket = match address {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, address, Instant::now()))
}

fn open_tcp(to: &Destination) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, format!("{to} has no address"));
    for address in resolve(to)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                // A server that lost its power is noticed, instead of being written to for a quarter of an hour.
                socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(PATIENCE * 5))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the server has not closed the connection: a write after that would be lost without an error.
fn is_open(mut stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let mut ignored = [0; 256];
    let open = loop {
        match stream.read(&mut ignored) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(e) => break e.kind() == ErrorKind::WouldBlock,
        }
    };
    open && stream.set_nonblocking(false).is_ok()
}

#[cfg(test)]
mod tests;
