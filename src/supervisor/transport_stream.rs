//! What the analysis of a transport stream has found, as a document.

use std::time::SystemTime;

use super::view::millis;
use crate::flow::analysis::{AnalysisStats, Report};
use crate::observe::status::{ChangeDoc, PidDoc, ProgramDoc, StreamDoc, TransportStreamDoc};
use crate::observe::text::rfc3339;
use crate::proto::mpegts::codec::Codec;
use crate::proto::mpegts::metadata::{Details, Scan, Stream, What};
use crate::proto::mpegts::monitor::{Check, CheckState};
use crate::proto::mpegts::packet::NULL_PID;
use crate::proto::mpegts::psi::Program;
use crate::time::Instant;

/// `None`: nothing has been analysed.
pub(super) fn doc(stats: &AnalysisStats) -> Option<Box<TransportStreamDoc>> {
    stats.read(|report| Box::new(report_doc(report)))
}

fn report_doc(report: &Report) -> TransportStreamDoc {
    let checks = || Check::ALL.iter().map(|check| (*check, &report.checks[*check as usize]));
    let wall = Wall::now();
    TransportStreamDoc {
        errors: checks().map(|(check, state)| (check.name().to_owned(), state.count)).collect(),
        in_error: in_error(report).map(|(check, _)| check.name().to_owned()).collect(),
        errored_seconds: checks()
            .filter(|(_, state)| state.errored_seconds > 0)
            .map(|(check, state)| (check.name().to_owned(), state.errored_seconds))
            .collect(),
        last_errors: checks()
            .filter_map(|(check, state)| Some((check.name().to_owned(), wall.of(state.last?))))
            .collect(),
        bitrate_bps: report.bits_per_second,
        null_share: report.null_share.map(|share| (f64::from(share) * 1e4).round() / 1e4),
        programs: report.programs.iter().map(|program| program_doc(program, report)).collect(),
        pids: pids(report),
        changes: report
            .changes
            .iter()
            .map(|change| ChangeDoc { at: wall.of(change.at), what: in_words(&change.what) })
            .collect(),
    }
}

/// The checks of the first priority that are in error, with their errors so far; none where there has never been a
/// program.
pub(super) fn errors_of_a_program(report: &Report) -> Vec<(&'static str, u64)> {
    if report.programs.is_empty() {
        return Vec::new();
    }
    let first = in_error(report).filter(|(check, _)| check.priority() == 1);
    first.map(|(check, state)| (check.name(), state.count)).collect()
}

/// The checks that are in error, of the first priority first.
fn in_error(report: &Report) -> impl Iterator<Item = (Check, &CheckState)> {
    let checks = Check::ALL.iter().map(|check| (*check, &report.checks[*check as usize]));
    checks.filter(|(_, state)| state.in_error_since.is_some())
}

fn pids(report: &Report) -> Vec<PidDoc> {
    let mut pids: Vec<_> = report
        .pids
        .iter()
        .map(|figures| PidDoc {
            pid: figures.pid,
            bitrate_bps: figures.bits_per_second,
            packets: figures.packets,
            continuity_errors: figures.continuity_errors,
            scrambled: figures.scrambled,
        })
        // Named by a table, and not seen yet.
        .filter(|pid| pid.packets > 0)
        .collect();
    pids.sort_unstable_by_key(|pid| pid.pid);
    pids
}

fn program_doc(program: &Program, report: &Report) -> ProgramDoc {
    let service = report.services.iter().find(|service| service.program == program.number);
    let named = |text: &String| (!text.is_empty()).then(|| text.clone());
    let pcr_pid = program.map.map(|map| map.pcr_pid).filter(|pid| *pid != NULL_PID);
    let clock = report.pids.iter().find(|figures| Some(figures.pid) == pcr_pid).and_then(|figures| figures.clock);
    ProgramDoc {
        number: program.number,
        name: service.and_then(|service| named(&service.name)),
        provider: service.and_then(|service| named(&service.provider)),
        pmt_pid: program.pmt_pid,
        pcr_pid,
        pcr_interval_ms: clock.and_then(|clock| clock.interval).map(millis),
        pcr_jitter_ms: clock.and_then(|clock| clock.jitter).map(millis),
        pcr_accuracy_ns: clock.and_then(|clock| clock.accuracy).map(|off| off.as_nanos() as u64),
        streams: report
            .streams
            .iter()
            .filter(|stream| stream.program == program.number)
            .map(|stream| stream_doc(stream, report))
            .collect(),
    }
}

fn stream_doc(stream: &Stream, report: &Report) -> StreamDoc {
    let figures = report.pids.iter().find(|figures| figures.pid == stream.pid);
    let mut doc = StreamDoc {
        pid: stream.pid,
        codec: stream.codec.name().to_owned(),
        stream_type: stream.stream_type,
        bitrate_bps: figures.map_or(0, |figures| figures.bits_per_second),
        language: stream.language.as_ref().map(|language| language.as_str().to_owned()),
        ..StreamDoc::default()
    };
    match stream.details {
        Details::Unknown => {}
        Details::Video(video) => {
            (doc.width, doc.height) = (Some(video.width), Some(video.height));
            doc.frame_rate = video.frame_rate.map(|rate| match rate.seconds {
                1 => rate.frames.to_string(),
                seconds => format!("{}/{seconds}", rate.frames),
            });
            doc.scan = Some(scan(video.scan).to_owned());
            doc.chroma = Some(video.chroma.name().to_owned());
            doc.bit_depth = Some(video.bit_depth);
            doc.profile = video.profile.map(str::to_owned);
        }
        Details::Audio(audio) => {
            doc.sample_rate = Some(audio.sample_rate);
            doc.channels = audio.channels;
            doc.profile = audio.profile.map(str::to_owned);
        }
    }
    doc
}

const fn scan(scan: Scan) -> &'static str {
    match scan {
        Scan::Progressive => "progressive",
        Scan::Interlaced => "interlaced",
    }
}

fn in_words(what: &What) -> String {
    let stream = |program: u16, pid: u16, codec: Codec| format!("{} on PID {pid} of program {program}", codec.name());
    match *what {
        What::ProgramAdded(number) => format!("program {number} came"),
        What::ProgramRemoved(number) => format!("program {number} went"),
        What::StreamAdded { program, pid, codec } => format!("{} came", stream(program, pid, codec)),
        What::StreamRemoved { program, pid, codec } => format!("{} went", stream(program, pid, codec)),
        What::Service { program } => format!("the service of program {program} is named otherwise"),
        What::Details { pid, from: Details::Video(was) } => {
            let rate = was.frame_rate.map_or(String::new(), |rate| match rate.seconds {
                1 => format!(", {} frames a second", rate.frames),
                seconds => format!(", {}/{seconds} frames a second", rate.frames),
            });
            format!("the picture on PID {pid} is no longer {}x{} {}{rate}", was.width, was.height, scan(was.scan))
        }
        What::Details { pid, from: Details::Audio(was) } => {
            let channels = was.channels.map_or(String::new(), |channels| format!(", {channels} channels"));
            format!("the sound on PID {pid} is no longer {} Hz{channels}", was.sample_rate)
        }
        What::Details { pid, from: Details::Unknown } => format!("PID {pid} is known"),
    }
}

/// What time it is, for moments of the past.
struct Wall {
    now: Instant,
    wall: SystemTime,
}

impl Wall {
    fn now() -> Self {
        Self { now: Instant::now(), wall: SystemTime::now() }
    }

    fn of(&self, moment: Instant) -> String {
        rfc3339(self.wall - self.now.saturating_duration_since(moment))
    }
}
