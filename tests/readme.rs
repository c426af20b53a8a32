//! What README.md says of other people's programs is what the tests of them do. With `UPDATE_EXPECT=1` the table is
//! written instead of compared: read the difference before it is committed.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use support::srt::Program;
use support::srt::matrix::Case;

const END: &str = "<!-- the end of it -->\n";

fn name(program: Program) -> &'static str {
    match program {
        Program::LiveTransmit => "srt-live-transmit, libsrt 1.5.1",
        Program::Ffmpeg => "ffmpeg 5.1, libsrt 1.5.1",
        Program::Gstreamer => "GStreamer 1.22, libsrt 1.5.1",
        Program::NewFfmpeg => "ffmpeg, libsrt 1.5.7",
        Program::Mediaconnect => "mediaconnectd itself",
    }
}

/// The ways in which a stream goes over, with the keys of each.
fn row(cases: &[Case]) -> String {
    let ways = [(false, true), (false, false), (true, true), (true, false)];
    let cell = |(we_send, we_listen): (bool, bool)| {
        let of_way = cases.iter().filter(|case| (case.we_send, case.we_listen) == (we_send, we_listen));
        let keys = of_way.map(|case| {
            case.key_length.map_or_else(|| "clear".to_owned(), |bytes| format!("AES-{}", u32::from(bytes) * 8))
        });
        format!(" {} |", keys.collect::<Vec<_>>().join(", "))
    };
    ways.map(cell).concat()
}

fn table() -> String {
    let mut table = "| | sends, calls us | sends, is called | receives, calls us | receives, is called |\n\
                     |---|---|---|---|---|\n"
        .to_owned();
    for peer in Program::PEERS {
        table += &format!("| {} |{}\n", name(peer), row(&Case::all(Program::Mediaconnect, peer)));
    }
    table
}

/// The table of this protocol in README.md is this one, or becomes it.
#[track_caller]
fn assert_said(protocol: &str, table: &str) {
    let begin = format!("<!-- {protocol} with others, written by tests/readme.rs -->\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    // Tests of one process write it one after the other.
    static WRITING: Mutex<()> = Mutex::new(());
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let readme = fs::read_to_string(&path).expect("README.md");
    let (before, rest) = readme.split_once(&begin).expect("the beginning of the table");
    let (said, after) = rest.split_once(END).expect("the end of the table");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, [before, &begin, table, END, after].concat()).expect("README.md can be written");
    } else {
        assert_eq!(said, table, "run this test with UPDATE_EXPECT=1");
    }
}

#[test]
fn the_table_of_srt_with_others_is_that_of_the_matrix() {
    assert_said("SRT", &table());
}

#[test]
fn the_table_of_rist_with_others_is_that_of_the_matrix() {
    assert_said("RIST", &support::rist::matrix::table());
}
