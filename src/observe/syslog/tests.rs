use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::time::SystemTime;

use super::*;
use crate::config::value::Host;

const PATIENCE: Duration = Duration::from_secs(30);

fn plan(server: SyslogServer, format: SyslogFormat) -> SyslogPlan {
    SyslogPlan { server, format, facility: 3 }
}

fn to(address: SocketAddr) -> Destination {
    Destination { host: Host::Address(address.ip()), port: address.port() }
}

fn record(message: &str) -> Record {
    let mut record = Record::new(tracing::Level::WARN, "mediaconnect::flow", message.to_owned());
    record.time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_370_400_123);
    record.fields = vec![("event", "source-lost".into()), ("flow", "news".into())];
    record
}

#[test]
fn a_local_line_has_priority_local_time_and_process_and_no_host() {
    let line = format(&record("lost"), &plan(SyslogServer::Path("/dev/log".into()), SyslogFormat::Rfc3164));
    let rest = line.strip_prefix("<28>").unwrap();
    let (time, rest) = rest.split_at("Nov 22 18:00:00".len());
    assert!(time.starts_with("Nov 2") && time.ends_with(":00"), "{time}");
    assert_eq!(rest, format!(" mediaconnectd[{}]: lost", std::process::id()));
}

#[test]
fn days_below_ten_are_padded_with_a_space() {
    let mut early = record("x");
    early.time = SystemTime::UNIX_EPOCH + Duration::from_secs(4 * 86_400 + 43_200);
    assert!(local_time(&early).starts_with("Jan  5 "), "{}", local_time(&early));
}

#[test]
fn a_network_line_of_the_old_form_names_the_host() {
    let server = SyslogServer::Udp(to("127.0.0.1:514".parse().unwrap()));
    let line = format(&record("lost"), &plan(server, SyslogFormat::Rfc3164));
    let host = hostname().split('.').next().unwrap().to_owned();
    assert!(line.ends_with(&format!(" {host} mediaconnectd[{}]: lost", std::process::id())), "{line}");
}

#[test]
fn the_new_form_has_structured_data_with_escapes() {
    let server = SyslogServer::Udp(to("127.0.0.1:514".parse().unwrap()));
    let mut record = record("lost\nfor ever");
    record.fields.push(("source", "a\"b]c\\d\n".into()));
    assert_eq!(
        format(&record, &plan(server, SyslogFormat::Rfc5424)),
        format!(
            "<28>1 2026-11-22T18:00:00.123Z {} mediaconnectd {} source-lost [mediaconnect@32473 \
             event=\"source-lost\" flow=\"news\" source=\"a\\\"b\\]c\\\\d \"] lost\\nfor ever",
            hostname(),
            std::process::id()
        )
    );
}

#[test]
fn a_line_without_fields_has_nil_for_them() {
    let server = SyslogServer::Udp(to("127.0.0.1:514".parse().unwrap()));
    let record = Record::new(tracing::Level::INFO, "t", "hello".into());
    let line = format(&record, &plan(server, SyslogFormat::Rfc5424));
    assert!(line.ends_with(" - - hello"), "{line}");
}

#[test]
fn a_datagram_a_line_goes_to_a_udp_server() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = to(server.local_addr().unwrap());
    let mut syslog = Syslog::open(&plan(SyslogServer::Udp(address), SyslogFormat::Rfc5424)).unwrap();
    for text in ["one", "two"] {
        syslog.write(&record(text)).unwrap();
        let mut buffer = [0; 1024];
        let n = server.recv(&mut buffer).unwrap();
        assert!(buffer[..n].ends_with(text.as_bytes()));
    }
}

/// The next octet-counted line's last word.
fn next_line(stream: &mut impl BufRead) -> String {
    let mut length = Vec::new();
    stream.read_until(b' ', &mut length).unwrap();
    let length: usize = String::from_utf8(length).unwrap().trim().parse().unwrap();
    let mut line = vec![0; length];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8(line).unwrap().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_tcp_server_that_restarts_gets_the_lines_written_while_it_was_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut syslog = Syslog::open(&plan(SyslogServer::Tcp(to(address)), SyslogFormat::Rfc5424)).unwrap();
    syslog.write(&record("one")).unwrap();
    let mut stream = BufReader::new(listener.accept().unwrap().0);
    assert_eq!(next_line(&mut stream), "one");
    drop((stream, listener));

    for text in ["two", "three"] {
        syslog.write(&record(text)).unwrap();
    }
    syslog.flush(Instant::now() + Duration::from_millis(100));
    assert!(syslog.trouble().0.is_some(), "nobody listens");
    let listener = TcpListener::bind(address).unwrap();
    let mut stream = BufReader::new(listener.accept().unwrap().0);
    assert_eq!([next_line(&mut stream), next_line(&mut stream)], ["two", "three"]);
    syslog.flush(Instant::now() + PATIENCE);
    assert_eq!(syslog.trouble(), (None, 0));
}

#[test]
fn a_server_that_is_away_costs_the_oldest_lines_and_no_wait() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut syslog = Syslog::open(&plan(SyslogServer::Tcp(to(address)), SyslogFormat::Rfc5424)).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut lost = 0;
    while lost == 0 && Instant::now() < end {
        lost += u64::from(syslog.write(&record("x")).is_err()) + syslog.trouble().1;
    }
    assert!(lost > 0);
}

#[test]
fn a_local_server_that_is_away_costs_an_error_and_is_found_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut syslog = Syslog::open(&plan(SyslogServer::Path(path.clone()), SyslogFormat::Rfc3164)).unwrap();
    assert!(syslog.write(&record("one")).is_err());
    let server = UnixDatagram::bind(&path).unwrap();
    syslog.write(&record("two")).unwrap();
    let mut buffer = [0; 1024];
    let n = server.recv(&mut buffer).unwrap();
    assert!(buffer[..n].ends_with(b"]: two"));
}
