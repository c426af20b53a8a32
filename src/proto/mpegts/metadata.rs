//! What a transport stream carries: its programs, their services' names, their streams, and what pictures and sound are
//! like.
//!
//! Tables are read when they change. Pictures and sound are looked at until their headers were found, and again every
//! [`RENEW`]: one picture and one sound at a time, up to 1 kB of a PES packet. What is kept is bounded: some 2 kB for a program
//! of a few streams, at most 50 kB.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

use super::codec::{Codec, Descriptors, Kind, Language, still_picture};
use super::packet::PacketHeader;
use super::psi::{MAX_STREAMS, Psi, Section, streams_of};

mod audio;
mod bits;
mod h264;
mod hevc;
mod service;
mod text;
mod video;

pub use audio::Audio;
pub(crate) use h264::order_said;
pub use service::Service;
use service::Services;
pub use video::{Chroma, FrameRate, Scan, Video};

/// Pictures and sound are looked at again after so long.
pub const RENEW: Duration = Duration::from_secs(5);
/// Changes that are remembered.
pub const MAX_CHANGES: usize = 32;
/// Bytes of a PES packet that are looked at.
const KEPT: usize = 1024;
/// A PES packet that takes longer than this to come stands in nobody's way.
const PATIENCE: Duration = Duration::from_secs(1);
/// PES packets that are looked at in a second, of all PIDs: more than pictures that come in a second.
const MAX_TRIES: u8 = 100;

/// An elementary stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The number of its program.
    pub program: u16,
    /// Where its packets are.
    pub pid: u16,
    /// ISO/IEC 13818-1, table 2-34.
    pub stream_type: u8,
    /// What it carries.
    pub codec: Codec,
    /// The first language that is named.
    pub language: Option<Language>,
    /// It may be a still picture.
    pub still_picture: bool,
    /// What its headers say.
    pub details: Details,
    /// Its headers are wanted.
    wanted: bool,
}

/// What a stream's own headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Details {
    /// They were not found, or the codec has none that are read.
    #[default]
    Unknown,
    /// Of a picture.
    Video(Video),
    /// Of a sound.
    Audio(Audio),
}

/// Something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When its packet came.
    pub at: Instant,
    /// What it was.
    pub what: What,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A program came, by number.
    ProgramAdded(u16),
    /// A program went.
    ProgramRemoved(u16),
    /// A stream came, or its codec or language changed.
    StreamAdded {
        /// The program's number.
        program: u16,
        /// Where it is.
        pid: u16,
        /// What it carries.
        codec: Codec,
    },
    /// A stream went, or became another.
    StreamRemoved {
        /// The program's number.
        program: u16,
        /// Where it was.
        pid: u16,
        /// What it carried.
        codec: Codec,
    },
    /// A service was named, or named otherwise, or is named no more.
    Service {
        /// The program's number.
        program: u16,
    },
    /// A picture or a sound is not what it was.
    Details {
        /// Where it is.
        pid: u16,
        /// What it was like.
        from: Details,
    },
}

/// What a transport stream carries.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Each with the CRC of its map.
    programs: Vec<(u16, Option<u32>)>,
    services: Services,
    streams: Vec<Stream>,
    changes: VecDeque<Change>,
    /// Changes so far.
    changed: u64,
    /// Of a picture, and of a sound.
    probes: [Option<Box<Probe>>; 2],
    renewed: Option<Instant>,
    /// PES packets that were looked at in this second.
    tries: u8,
}

/// The beginning of a PES packet.
#[derive(Debug, Clone)]
struct Probe {
    pid: u16,
    began: Instant,
    len: usize,
    bytes: [u8; KEPT],
}

impl Metadata {
    /// The streams of all programs, in the order of their tables.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The services that are named; it may be that there is no such program.
    pub fn services(&self) -> &[Service] {
        self.services.as_slice()
    }

    /// The newest changes, the oldest of them first. A stream's details are one only once they were known.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// How many changes there have been.
    pub const fn changed(&self) -> u64 {
        self.changed
    }

    /// A section of a known program's map. Call [`Self::handle_programs`] after a change.
    pub(super) fn handle_pmt(&mut self, section: &Section<'_>, now: Instant) {
        let number = section.extension;
        let Some(known) = self.programs.iter_mut().find(|program| program.0 == number) else { return };
        if known.1.replace(section.crc) == Some(section.crc) {
            return;
        }
        let mut before = Vec::new();
        self.streams.retain(|stream| {
            let stays = stream.program != number;
            before.extend((!stays).then(|| stream.clone()));
            stays
        });
        for (stream_type, pid, descriptors) in streams_of(section) {
            if self.streams.len() == MAX_STREAMS {
                break;
            }
            let descriptors = Descriptors(descriptors);
            let codec = Codec::of(stream_type, descriptors.clone());
            let mut stream = Stream {
                program: number,
                pid,
                stream_type,
                codec,
                language: Language::of(descriptors.clone()),
                still_picture: still_picture(descriptors),
                details: Details::Unknown,
                wanted: has_headers(codec),
            };
            let same = |old: &Stream| (old.pid, old.codec, old.language) == (pid, codec, stream.language);
            if let Some(at) = before.iter().position(same) {
                stream.details = before.remove(at).details;
            } else {
                self.note(What::StreamAdded { program: number, pid, codec }, now);
            }
            self.streams.push(stream);
        }
        for Stream { program, pid, codec, .. } in before {
            self.note(What::StreamRemoved { program, pid, codec }, now);
        }
    }

    /// A section of the service description table.
    pub(super) fn handle_sdt(&mut self, section: &Section<'_>, now: Instant) {
        let Some(before) = self.services.handle(section) else { return };
        let after = self.services.as_slice();
        let gone = before.iter().filter(|old| !after.iter().any(|new| new.program == old.program));
        let differs = |new: &&Service| {
            let old = before.iter().find(|old| old.program == new.program);
            old.is_none_or(|old| (&old.name, &old.provider) != (&new.name, &new.provider))
        };
        let programs: Vec<_> = gone.chain(after.iter().filter(differs)).map(|service| service.program).collect();
        programs.into_iter().for_each(|program| self.note(What::Service { program }, now));
    }

    /// The programs are others, or their maps.
    pub(super) fn handle_programs(&mut self, psi: &Psi, now: Instant) {
        let stays = |number: u16| psi.programs().iter().any(|program| program.number == number);
        let gone: Vec<_> = self.programs.iter().map(|(number, _)| *number).filter(|number| !stays(*number)).collect();
        for number in gone {
            self.programs.retain(|program| program.0 != number);
            self.streams.retain(|stream| stream.program != number);
            self.note(What::ProgramRemoved(number), now);
        }
        for program in psi.programs() {
            let Some(known) = self.programs.iter_mut().find(|known| known.0 == program.number) else {
                self.programs.push((program.number, None));
                self.note(What::ProgramAdded(program.number), now);
                continue;
            };
            if program.map.is_none() && known.1.take().is_some() {
                // Its map is elsewhere now.
                self.streams.retain(|stream| stream.program != program.number);
            }
        }
    }

    /// A second has passed. Whether [`Self::wanted`] may name more PIDs than before.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        self.tries = 0;
        let renewed = *self.renewed.get_or_insert(now);
        if now.saturating_duration_since(renewed) < RENEW {
            return false;
        }
        self.renewed = Some(now);
        self.streams.iter_mut().for_each(|stream| stream.wanted = has_headers(stream.codec));
        true
    }

    /// The PIDs whose PES packets are wanted.
    pub(super) fn wanted(&self) -> impl Iterator<Item = u16> {
        self.streams.iter().filter(|stream| stream.wanted).map(|stream| stream.pid)
    }

    /// Whether the PES packets of a PID are wanted.
    pub(super) fn wants(&self, pid: u16) -> bool {
        self.wanted().any(|wanted| wanted == pid)
    }

    /// A packet of a PID that is wanted or being looked at, in clear; `broken`: it does not follow on the one before.
    /// Whether the next of it must come here, too.
    pub(super) fn handle_media(&mut self, header: PacketHeader, payload: &[u8], broken: bool, now: Instant) -> bool {
        let pid = header.pid();
        let Some(stream) = self.streams.iter().find(|stream| stream.pid == pid) else { return false };
        let (at, codec) = (usize::from(stream.codec.kind() == Kind::Audio), stream.codec);
        if let Some(probe) = &mut self.probes[at] {
            let mine = probe.pid == pid;
            if mine && !broken && !header.unit_start() {
                return self.collect(at, codec, payload, now);
            }
            if !mine && now.saturating_duration_since(probe.began) < PATIENCE {
                return false;
            }
            if let Some(probe) = self.probes[at].take_if(|_| mine && !broken) {
                // Its end; others may have their turn before it begins again.
                self.read(&probe, codec, now);
                if self.wanted().any(|wanted| wanted != pid) {
                    return false;
                }
            }
            self.probes[at] = None;
        }
        if !header.unit_start() || self.tries == MAX_TRIES || !self.wants(pid) {
            return false;
        }
        self.tries += 1;
        self.probes[at] = Some(Box::new(Probe { pid, began: now, len: 0, bytes: [0; KEPT] }));
        self.collect(at, codec, payload, now)
    }

    /// What is being looked at goes no further.
    pub(super) fn abort(&mut self) {
        self.probes = [None, None];
    }

    /// Take more of the PES packet. Whether yet more is needed.
    fn collect(&mut self, at: usize, codec: Codec, payload: &[u8], now: Instant) -> bool {
        let Some(mut probe) = self.probes[at].take() else { return false };
        let room = &mut probe.bytes[probe.len..];
        let taken = payload.len().min(room.len());
        room[..taken].copy_from_slice(&payload[..taken]);
        probe.len += taken;
        let full = probe.len == KEPT;
        // A frame of sound is known by its first bytes; a parameter set may go on in the next packet.
        let done = (full || codec.kind() == Kind::Audio) && self.read(&probe, codec, now);
        if full || done {
            return false;
        }
        self.probes[at] = Some(probe);
        true
    }

    /// Look for headers. Whether there were some.
    fn read(&mut self, probe: &Probe, codec: Codec, now: Instant) -> bool {
        let pid = probe.pid;
        let details = elementary(&probe.bytes[..probe.len]).and_then(|stream| details(codec, stream));
        let Some(details) = details else { return false };
        let mut before = details;
        for stream in self.streams.iter_mut().filter(|stream| stream.pid == pid && stream.codec == codec) {
            before = std::mem::replace(&mut stream.details, details);
            stream.wanted = false;
        }
        if before != details && before != Details::Unknown {
            self.note(What::Details { pid, from: before }, now);
        }
        true
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let programs = self.programs.capacity() * size_of::<(u16, Option<u32>)>();
        let streams = self.streams.capacity() * size_of::<Stream>();
        let changes = self.changes.capacity() * size_of::<Change>();
        programs + streams + changes + self.services.memory() + 2 * size_of::<Probe>()
    }

    fn note(&mut self, what: What, at: Instant) {
        self.changed += 1;
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { at, what });
    }
}

/// Codecs whose headers are read.
const fn has_headers(codec: Codec) -> bool {
    matches!(
        codec,
        Codec::Mpeg1Video
            | Codec::Mpeg2Video
            | Codec::H264
            | Codec::Hevc
            | Codec::MpegAudio
            | Codec::Aac
            | Codec::AacLatm
            | Codec::Ac3
            | Codec::Eac3
    )
}

/// The elementary stream behind the header of a PES packet (ISO/IEC 13818-1, section 2.4.3.6).
fn elementary(pes: &[u8]) -> Option<&[u8]> {
    let &[0, 0, 1, _, _, _, marker, _, header, ..] = pes else { return None };
    pes.get(9 + usize::from(header)..).filter(|_| marker >> 6 == 2)
}

fn details(codec: Codec, stream: &[u8]) -> Option<Details> {
    match codec {
        Codec::Mpeg1Video | Codec::Mpeg2Video => video::mpeg2(stream).map(Details::Video),
        Codec::H264 => h264::video(stream).map(Details::Video),
        Codec::Hevc => hevc::video(stream).map(Details::Video),
        _ => audio::audio(codec, stream).map(Details::Audio),
    }
}

#[cfg(test)]
mod tests;
