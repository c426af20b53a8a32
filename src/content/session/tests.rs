use super::*;

fn pictures(mut bytes: &[u8]) -> Vec<io::Result<Vec<u8>>> {
    std::iter::from_fn(|| next_picture(&mut bytes).transpose()).take(9).collect()
}

#[test]
fn pictures_are_read_by_the_length_that_comes_before_each() {
    let stream = b"--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: 6\r\n\r\n\xFF\xD8\r\n\r\n\r\n--ffmpeg\r\n\
        Content-type: image/jpeg\r\nContent-length: 2\r\n\r\n\xFF\xD8\r\n--ffmpeg\r\n";
    let read: Vec<_> = pictures(stream).into_iter().map(Result::unwrap).collect();
    assert_eq!(read, [&b"\xFF\xD8\r\n\r\n"[..], b"\xFF\xD8"]);
}

#[test]
fn a_picture_that_is_too_large_or_cut_is_an_error() {
    let large = format!("Content-length: {}\r\n\r\n", LARGEST_PICTURE + 1);
    for bytes in [large.as_bytes(), b"Content-length: 9\r\n\r\nshort"] {
        assert!(matches!(pictures(bytes).as_slice(), [Err(_), ..]), "{bytes:?}");
    }
    for none in ["", "\r\n\r\n", "Content-length: many\r\n\r\n", "--ffmpeg\r\n"] {
        assert!(pictures(none.as_bytes()).is_empty(), "{none:?}");
    }
}

#[test]
fn a_line_without_end_is_read_in_parts() {
    let endless = [b'x'; 3 * LONGEST_LINE as usize];
    let mut from = &endless[..];
    let lengths: Vec<_> = std::iter::from_fn(|| next_line(&mut from).unwrap().map(|line| line.len())).collect();
    assert_eq!(lengths, [LONGEST_LINE as usize; 3]);
}

#[test]
fn that_time_passes_is_no_news() {
    let report = |black| Report { black, ..Report::default() };
    assert_eq!(news(&report(State::Wrong(10_000))), news(&report(State::Wrong(11_000))));
    assert_ne!(news(&report(State::Wrong(10_000))), news(&report(State::Right)));
    assert_ne!(news(&report(State::Unknown)), news(&report(State::Right)));
}

/// A daemon's end of a connection to a helper that is served here.
fn session() -> (UnixStream, thread::JoinHandle<Result<(), String>>) {
    let (daemon, helper) = UnixStream::pair().unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    (daemon, thread::spawn(move || serve(helper)))
}

fn told(mut daemon: &UnixStream) -> Message {
    let mut head = [0; super::super::wire::HEAD];
    daemon.read_exact(&mut head).unwrap();
    let (kind, length) = super::super::wire::Kind::of_head(head).unwrap();
    let mut body = vec![0; length];
    daemon.read_exact(&mut body).unwrap();
    Message::parse(kind, body).unwrap()
}

#[test]
fn it_ends_with_the_connection_also_in_the_middle_of_a_packet() {
    for sent in [&b""[..], &[0x47; 100], &[0x47; 1000]] {
        let (mut daemon, helper) = session();
        daemon.write_all(Wanted::NOTHING.line().as_bytes()).unwrap();
        daemon.write_all(sent).unwrap();
        drop(daemon);
        assert_eq!(helper.join().unwrap(), Ok(()));
    }
}

#[test]
fn who_does_not_say_what_is_wanted_is_told_so() {
    let (mut daemon, helper) = session();
    daemon.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let Message::Report(report) = told(&daemon) else { panic!("a picture") };
    assert!(report.fault.is_some_and(|fault| fault.starts_with("the daemon did not say what it wants: ")));
    assert!(helper.join().unwrap().is_err());
}

#[test]
fn it_gives_signs_of_life_where_there_is_nothing_to_look_at() {
    let (mut daemon, helper) = session();
    let wanted = Wanted { thumbnails: Some(Duration::from_secs(1)), ..Wanted::NOTHING };
    daemon.write_all(wanted.line().as_bytes()).unwrap();
    // Null packets: no program.
    daemon.write_all(&[&[0x47, 0x1F, 0xFF, 0x10][..], &[0xFF; 184]].concat().repeat(100)).unwrap();
    assert_eq!(told(&daemon), Message::Report(Report::default()));
    drop(daemon);
    assert_eq!(helper.join().unwrap(), Ok(()));
}
