//! Which streams are looked at: the first picture and the first sound of one program. The rest of the multiplex is left
//! out before anything decodes it.

use std::time::Duration;

use super::prompt::show_at_once;
use super::wire::Wanted;
use crate::proto::mpegts::codec::Codec;
use crate::proto::mpegts::monitor::Monitor;
use crate::proto::mpegts::packet::{PACKET_LEN, PacketHeader};
use crate::proto::mpegts::psi::PAT_PID;
use crate::time::Instant;

/// How long the map of each program is waited for: they come every half second, and some never.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pmt_pid: u16,
    pcr_pid: u16,
    /// The picture is H.264.
    h264: bool,
    /// The PID of the picture.
    pub(super) picture: Option<u16>,
    /// The PID of the sound.
    pub(super) sound: Option<u16>,
}

impl Choice {
    /// Of a stream that is known since `since`; `None`: there is nothing to look at, or not all is known yet.
    pub(super) fn of(monitor: &Monitor, wanted: &Wanted, since: Instant, now: Instant) -> Option<Self> {
        let programs = monitor.psi().programs();
        let waits = now.saturating_duration_since(since) < PATIENCE && programs.iter().any(|p| p.map.is_none());
        if waits {
            return None;
        }
        let streams = monitor.metadata().streams();
        let first = |program: u16, fits: fn(Codec) -> bool| {
            streams.iter().find(|stream| stream.program == program && fits(stream.codec))
        };
        let choices = programs.iter().filter_map(|program| {
            let picture = first(program.number, is_picture).filter(|_| wanted.pictures());
            let sound = first(program.number, is_sound).filter(|_| wanted.sound());
            Some(Self {
                pmt_pid: program.pmt_pid,
                pcr_pid: program.map?.pcr_pid,
                h264: picture.is_some_and(|stream| stream.codec == Codec::H264),
                picture: picture.map(|stream| stream.pid),
                sound: sound.map(|stream| stream.pid),
            })
        });
        // The first that has most of what is wanted.
        let has = |choice: &Self| u8::from(choice.picture.is_some()) * 2 + u8::from(choice.sound.is_some());
        choices.rev().max_by_key(has).filter(|choice| has(choice) > 0)
    }

    /// Append the packets that belong to it.
    pub(super) fn pick(&self, packets: &[u8], to: &mut Vec<u8>) {
        for packet in packets.as_chunks::<PACKET_LEN>().0 {
            let Some(header) = PacketHeader::parse(packet).filter(|header| self.wants(*header)) else { continue };
            let mut packet = *packet;
            if self.h264 && header.unit_start() && Some(header.pid()) == self.picture {
                show_at_once(&mut packet);
            }
            to.extend(packet);
        }
    }

    fn wants(&self, header: PacketHeader) -> bool {
        let pid = Some(header.pid());
        let tables = [PAT_PID, self.pmt_pid, self.pcr_pid].contains(&header.pid());
        // What is scrambled can't be seen, and looks like damage to a decoder.
        !header.transport_error() && header.scrambling() == 0 && (tables || pid == self.picture || pid == self.sound)
    }
}

/// Pictures that ffmpeg decodes from a transport stream.
const fn is_picture(codec: Codec) -> bool {
    matches!(
        codec,
        Codec::Mpeg1Video
            | Codec::Mpeg2Video
            | Codec::Mpeg4Video
            | Codec::H264
            | Codec::Hevc
            | Codec::Vc1
            | Codec::Jpeg2000
    )
}

/// Sound that ffmpeg decodes from a transport stream.
const fn is_sound(codec: Codec) -> bool {
    matches!(
        codec,
        Codec::MpegAudio
            | Codec::Aac
            | Codec::AacLatm
            | Codec::Ac3
            | Codec::Eac3
            | Codec::Dts
            | Codec::Opus
            | Codec::Smpte302
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mpegts::psi::{PAT, PMT, crc32};

    const ALL: Wanted = Wanted { thumbnails: Some(PATIENCE), silence: Some(PATIENCE), ..Wanted::NOTHING };

    /// A packet with a section in it.
    fn table(pid: u16, table: u8, extension: u16, version: u8, body: &[u8]) -> Vec<u8> {
        let [a, b] = extension.to_be_bytes();
        let mut section = vec![table, 0xB0, 5 + body.len() as u8 + 4, a, b, 0xC1 | version << 1, 0, 0];
        section.extend(body);
        section.extend(crc32(&section).to_be_bytes());
        let mut packet = packet(pid, 0x10);
        packet[1] |= 0x40;
        packet[4] = 0;
        packet[5..][..section.len()].copy_from_slice(&section);
        packet
    }

    fn packet(pid: u16, flags: u8) -> Vec<u8> {
        let [high, low] = pid.to_be_bytes();
        [&[0x47, high, low, flags][..], &[0xFF; 184]].concat()
    }

    fn pat(programs: &[(u16, u16)]) -> Vec<u8> {
        let body = programs.iter().flat_map(|(n, pid)| [n.to_be_bytes(), (pid | 0xE000).to_be_bytes()].concat());
        table(PAT_PID, PAT, 1, 0, &body.collect::<Vec<_>>())
    }

    /// The first stream bears the PCR.
    fn pmt(program: u16, version: u8, streams: &[(u8, u16)]) -> Vec<u8> {
        let mut body = [&(streams[0].1 | 0xE000).to_be_bytes()[..], &[0xF0, 0]].concat();
        for (stream_type, pid) in streams {
            body.push(*stream_type);
            body.extend((pid | 0xE000).to_be_bytes());
            body.extend([0xF0, 0]);
        }
        table(0x1000 + program, PMT, program, version, &body)
    }

    fn choice(packets: &[Vec<u8>], wanted: &Wanted, after: Duration) -> Option<Choice> {
        let start = Instant::now();
        let mut monitor = Monitor::new(start);
        packets.iter().for_each(|packet| monitor.handle_datagram(packet, start));
        Choice::of(&monitor, wanted, start, start + after)
    }

    const RADIO: &[(u8, u16)] = &[(0x03, 0x110)];
    const TELEVISION: &[(u8, u16)] = &[(0x06, 0x120), (0x0F, 0x121), (0x1B, 0x122), (0x24, 0x123), (0x03, 0x124)];

    #[test]
    fn the_first_program_with_a_picture_is_looked_at_with_its_first_sound() {
        let packets = [pat(&[(1, 0x1001), (2, 0x1002)]), pmt(1, 0, RADIO), pmt(2, 0, TELEVISION)];
        let chosen = choice(&packets, &ALL, Duration::ZERO).unwrap();
        let expected = Choice { pmt_pid: 0x1002, pcr_pid: 0x120, h264: true, picture: Some(0x122), sound: Some(0x121) };
        assert_eq!(chosen, expected);
        let silence = Wanted { silence: Some(PATIENCE), ..Wanted::NOTHING };
        let chosen = choice(&packets, &silence, Duration::ZERO).unwrap();
        assert_eq!((chosen.pmt_pid, chosen.picture, chosen.sound), (0x1001, None, Some(0x110)));
    }

    #[test]
    fn a_map_that_does_not_come_is_not_waited_for_for_ever() {
        let packets = [pat(&[(1, 0x1001), (2, 0x1002)]), pmt(1, 0, RADIO)];
        assert_eq!(choice(&packets, &ALL, PATIENCE / 2), None);
        assert_eq!(choice(&packets, &ALL, PATIENCE).unwrap().sound, Some(0x110));
    }

    #[test]
    fn where_there_is_nothing_that_can_be_decoded_nothing_is_looked_at() {
        // JPEG XS, AC-4 (private), and data.
        let packets = [pat(&[(1, 0x1001)]), pmt(1, 0, &[(0x32, 0x100), (0x06, 0x101), (0x05, 0x102)])];
        assert_eq!(choice(&packets, &ALL, PATIENCE), None);
        assert_eq!(choice(&[], &ALL, PATIENCE), None);
    }

    #[test]
    fn only_what_belongs_to_it_is_picked_and_nothing_scrambled() {
        let choice = Choice { pmt_pid: 0x1002, pcr_pid: 0x120, h264: true, picture: Some(0x122), sound: None };
        let wanted = [packet(0, 0x10), packet(0x122, 0x1F), packet(0x1002, 0x10), packet(0x120, 0x20)];
        let others = [
            packet(0x121, 0x10),
            packet(0x1FFF, 0x10),
            packet(0x122, 0x90),
            packet(0x122 | 0x8000, 0x10),
            vec![0; PACKET_LEN],
        ];
        let mut picked = Vec::new();
        choice.pick(&[wanted.concat(), others.concat()].concat(), &mut picked);
        choice.pick(&others.concat(), &mut picked);
        assert_eq!(picked, wanted.concat());
    }
}
