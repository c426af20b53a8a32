//! What the analysis of a transport stream has found, in words.

use std::fmt::Write as _;

use super::super::text::clean;
use crate::observe::status::{ProgramDoc, StreamDoc, TransportStreamDoc};
use crate::observe::text::rate;

/// Errors, and what it carries.
pub(super) fn transport_stream(out: &mut String, ts: &TransportStreamDoc) {
    let null = ts.null_share.map_or(String::new(), |share| format!(", {:.1} % null packets", share * 100.0));
    let _ = writeln!(out, "  ts        {}{null}; {}", rate(ts.bitrate_bps), errors(ts));
    for program in &ts.programs {
        let _ = writeln!(out, "  program   {}", clean(&head(program)));
        for stream in &program.streams {
            let _ = writeln!(out, "            {}", clean(&words(stream)));
        }
    }
}

fn errors(ts: &TransportStreamDoc) -> String {
    let some: Vec<_> = ts.errors.iter().filter(|(_, errors)| **errors > 0).collect();
    if some.is_empty() {
        return "no errors by TR 101 290".to_owned();
    }
    let one = |(check, errors): (&String, &u64)| {
        let now = if ts.in_error.contains(check) { " (now)" } else { "" };
        format!("{check} {errors}{now}")
    };
    format!("errors by TR 101 290: {}", some.into_iter().map(one).collect::<Vec<_>>().join(", "))
}

fn head(program: &ProgramDoc) -> String {
    let mut text = program.number.to_string();
    if let Some(name) = &program.name {
        let _ = write!(text, " {name}");
    }
    if let Some(provider) = &program.provider {
        let _ = write!(text, " ({provider})");
    }
    let _ = write!(text, ", PMT on PID {}", program.pmt_pid);
    if let Some(pid) = program.pcr_pid {
        let _ = write!(text, ", PCR on PID {pid}");
    }
    text
}

fn words(stream: &StreamDoc) -> String {
    let mut text = format!("PID {}: {}", stream.pid, stream.codec);
    let mut add = |word: Option<String>| {
        if let Some(word) = word {
            let _ = write!(text, " {word}");
        }
    };
    add(stream.profile.clone());
    add(stream.width.zip(stream.height).map(|(width, height)| format!("{width}x{height}")));
    add(stream.frame_rate.as_ref().map(|rate| format!("{rate} fps")));
    add(stream.scan.clone());
    add(stream.chroma.clone());
    add(stream.bit_depth.map(|bits| format!("{bits} bit")));
    add(stream.sample_rate.map(|hertz| format!("{hertz} Hz")));
    add(stream.channels.map(|channels| format!("{channels} ch")));
    add(stream.language.clone());
    let _ = write!(text, ", {}", rate(stream.bitrate_bps));
    text
}
