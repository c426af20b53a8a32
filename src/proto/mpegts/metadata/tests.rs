use proptest::prelude::*;

use super::*;
use crate::proto::mpegts::packet::{PACKET_LEN, SYNC};
use crate::proto::mpegts::psi::{SI_PIDS, crc32};

fn section(table: u8, extension: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let [a, b] = extension.to_be_bytes();
    let [high, low] = u16::try_from(5 + body.len() + 4).unwrap().to_be_bytes();
    let mut section = vec![table, 0xB0 | high, low, a, b, 0xC1 | version << 1, 0, 0];
    section.extend(body);
    section.extend(crc32(&section).to_be_bytes());
    section
}

/// Tables and PES packets for [`Metadata`], as a monitor hands them on.
struct Bench {
    psi: Psi,
    metadata: Metadata,
    now: Instant,
    counter: u8,
}

impl Bench {
    fn new() -> Self {
        Self { psi: Psi::new(true), metadata: Metadata::default(), now: Instant::now(), counter: 0 }
    }

    fn packet(&mut self, pid: u16, unit_start: bool, payload: &[u8]) -> [u8; PACKET_LEN] {
        let mut packet = [0xFF; PACKET_LEN];
        let [high, low] = pid.to_be_bytes();
        self.counter += 1;
        packet[..4].copy_from_slice(&[SYNC, high | u8::from(unit_start) << 6, low, 0x10 | (self.counter % 16)]);
        packet[4..][..payload.len()].copy_from_slice(payload);
        packet
    }

    fn table(&mut self, pid: u16, section: &[u8]) {
        let bytes = [&[0], section].concat();
        for (n, part) in bytes.chunks(184).enumerate() {
            let packet = self.packet(pid, n == 0, part);
            let Self { psi, metadata, now, .. } = self;
            psi.handle_with(PacketHeader::parse(&packet).unwrap(), &packet, *now, |section| match section.table {
                2 => metadata.handle_pmt(section, *now),
                0x42 => metadata.handle_sdt(section, *now),
                _ => {}
            });
        }
        self.metadata.handle_programs(&self.psi, self.now);
    }

    fn pat(&mut self, version: u8, programs: &[u16]) {
        let entries: Vec<_> =
            programs.iter().flat_map(|n| [n.to_be_bytes(), (0xE100 + n).to_be_bytes()].concat()).collect();
        self.table(0, &section(0, 1, version, &entries));
    }

    /// Streams: type, PID and descriptors.
    fn pmt(&mut self, program: u16, version: u8, streams: &[(u8, u16, &[u8])]) {
        let mut body = vec![0xE1, 0, 0xF0, 0];
        for (stream_type, pid, descriptors) in streams {
            body.push(*stream_type);
            body.extend((pid | 0xE000).to_be_bytes());
            body.extend([0xF0, u8::try_from(descriptors.len()).unwrap()]);
            body.extend(*descriptors);
        }
        self.table(0x100 + program, &section(2, program, version, &body));
    }

    fn sdt(&mut self, version: u8, services: &[(u16, &str)]) {
        let mut body = vec![0, 1, 0xFF];
        for (program, name) in services {
            let (name, len) = (name.as_bytes(), u8::try_from(name.len()).unwrap());
            let descriptor = [&[0x48, 6 + len, 1, 3][..], b"Org", &[len], name].concat();
            body.extend([&program.to_be_bytes()[..], &[0xFC, 0x80, descriptor.len() as u8], &descriptor].concat());
        }
        self.table(*SI_PIDS.start() + 1, &section(0x42, 1, version, &body));
    }

    /// A PES packet, whole; whether its end is awaited.
    fn pes(&mut self, pid: u16, stream: &[u8]) -> bool {
        let bytes = [&[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0][..], stream].concat();
        let mut more = false;
        for (n, part) in bytes.chunks(184).enumerate() {
            let packet = self.packet(pid, n == 0, part);
            let header = PacketHeader::parse(&packet).unwrap();
            more = self.metadata.handle_media(header, header.payload_of(&packet), false, self.now);
        }
        more
    }

    fn changes(&self) -> Vec<What> {
        self.metadata.changes().map(|change| change.what).collect()
    }

    fn details(&self, pid: u16) -> Details {
        self.metadata.streams().iter().find(|stream| stream.pid == pid).unwrap().details
    }
}

/// MPEG-1 layer II, stereo, 48 kHz; or mono at 32 kHz.
const STEREO: [u8; 4] = [0xFF, 0xFD, 0xA4, 0x00];
const MONO: [u8; 4] = [0xFF, 0xFD, 0x28, 0xC0];

fn sound(codec: Codec, header: &[u8]) -> Option<(u32, Option<u8>, Option<&'static str>)> {
    let bytes = [header, &[0; 40]].concat();
    audio::audio(codec, &bytes).map(|audio| (audio.sample_rate, audio.channels, audio.profile))
}

#[test]
fn changes_of_programs_streams_and_services_are_remembered() {
    let mut bench = Bench::new();
    bench.pat(0, &[1, 2]);
    bench.pmt(1, 0, &[(0x1B, 256, &[]), (0x03, 257, &[0x0A, 4, b'd', b'e', b'u', 0])]);
    bench.sdt(0, &[(1, "Eins"), (9, "Neun")]);
    let added = |program, pid, codec| What::StreamAdded { program, pid, codec };
    let expected = [
        What::ProgramAdded(1),
        What::ProgramAdded(2),
        added(1, 256, Codec::H264),
        added(1, 257, Codec::MpegAudio),
        What::Service { program: 1 },
        What::Service { program: 9 },
    ];
    assert_eq!(bench.changes(), expected);
    assert_eq!(bench.metadata.streams()[1].language.unwrap().as_str(), "deu");
    let names: Vec<_> = bench.metadata.services().iter().map(|s| (s.program, &*s.name, &*s.provider)).collect();
    assert_eq!(names, [(1, "Eins", "Org"), (9, "Neun", "Org")]);

    bench.now += Duration::from_secs(1);
    bench.pmt(1, 1, &[(0x24, 256, &[]), (0x03, 257, &[0x0A, 4, b'd', b'e', b'u', 0])]);
    bench.sdt(1, &[(1, "One")]);
    bench.pat(1, &[1]);
    bench.pat(1, &[1]);
    let removed = What::StreamRemoved { program: 1, pid: 256, codec: Codec::H264 };
    let expected = [
        added(1, 256, Codec::Hevc),
        removed,
        What::Service { program: 9 },
        What::Service { program: 1 },
        What::ProgramRemoved(2),
    ];
    assert_eq!(bench.changes()[6..], expected);
    assert!(bench.metadata.changes().skip(6).all(|change| change.at == bench.now));
    assert_eq!(bench.metadata.changed(), 11);
    for version in 0..40 {
        bench.sdt(version % 32, &[(1, if version % 2 == 0 { "A" } else { "B" })]);
    }
    assert_eq!((bench.metadata.changes().count(), bench.metadata.changed()), (MAX_CHANGES, 51));
}

#[test]
fn a_sound_is_looked_at_once_and_again_after_five_seconds() {
    let mut bench = Bench::new();
    bench.pat(0, &[1]);
    bench.pmt(1, 0, &[(0x03, 257, &[])]);
    assert_eq!(bench.metadata.wanted().collect::<Vec<_>>(), [257]);
    assert!(!bench.pes(257, &[&STEREO[..], &[0; 150]].concat()));
    assert_eq!(
        bench.details(257),
        Details::Audio(Audio { sample_rate: 48_000, channels: Some(2), profile: Some("Layer II") })
    );
    assert_eq!(bench.metadata.wanted().count(), 0, "now it is known");
    assert!(!bench.pes(257, &[&MONO[..], &[0; 150]].concat()));
    assert!(bench.metadata.changed() == 2);
    assert!(!bench.metadata.handle_timeout(bench.now));
    bench.now += Duration::from_secs(4);
    assert!(!bench.metadata.handle_timeout(bench.now));
    bench.now += Duration::from_secs(1);
    assert!(bench.metadata.handle_timeout(bench.now));
    let before = bench.details(257);
    bench.pes(257, &[&MONO[..], &[0; 150]].concat());
    assert_eq!(bench.changes()[2..], [What::Details { pid: 257, from: before }]);
    let now = bench.details(257);
    bench.pmt(1, 1, &[(0x03, 257, &[]), (0x03, 258, &[])]);
    assert_eq!((bench.details(257), bench.details(258)), (now, Details::Unknown), "what stays keeps its details");
    assert!(bench.metadata.wants(257), "and is looked at again");
}

#[test]
fn a_pes_packet_that_breaks_off_or_never_ends_harms_nothing() {
    let mut bench = Bench::new();
    bench.pat(0, &[1]);
    bench.pmt(1, 0, &[(0x1B, 256, &[]), (0x03, 257, &[]), (0x1B, 258, &[])]);
    assert!(bench.pes(256, &[0; 100]), "a parameter set may follow");
    assert!(!bench.pes(258, H264), "one picture at a time");
    assert!(!bench.pes(257, &[&STEREO[..], &[0; 150]].concat()), "and a sound beside it");
    assert_ne!(bench.details(257), Details::Unknown);
    let lost = bench.packet(256, false, &[0; 184]);
    assert!(!bench.metadata.handle_media(PacketHeader::parse(&lost).unwrap(), &lost[4..], true, bench.now));
    assert!(bench.pes(256, &[0; 100]), "from its next beginning on");
    assert!(!bench.pes(256, &[0; 100]), "others have their turn");
    assert!(bench.pes(258, H264));
    bench.now += PATIENCE;
    assert!(bench.pes(256, H264), "its end never came");
    assert_eq!(bench.details(258), Details::Unknown);
    assert!(!bench.pes(256, &[0; 100]));
    assert_ne!(bench.details(256), Details::Unknown);
    assert!(!bench.pes(258, &[0; 2000]), "no more than so much is kept");
}

#[test]
fn headers_of_sound_are_read() {
    let (two, six) = (Some(2), Some(6));
    assert_eq!(sound(Codec::MpegAudio, &STEREO), Some((48_000, two, Some("Layer II"))));
    assert_eq!(sound(Codec::MpegAudio, &MONO), Some((48_000 * 2 / 3, Some(1), Some("Layer II"))));
    assert_eq!(sound(Codec::MpegAudio, &[0xFF, 0xFB, 0x90, 0]), Some((44_100, two, Some("Layer III"))));
    assert_eq!(sound(Codec::MpegAudio, &[0xFF, 0xF3, 0x84, 0]), Some((24_000, two, Some("Layer III"))));
    assert_eq!(sound(Codec::MpegAudio, &[0xFF, 0xFD, 0xF4, 0]), None, "a rate that is none");
    assert_eq!(sound(Codec::Aac, &[0xFF, 0xF1, 0x4C, 0x80, 0x20, 0, 0]), Some((48_000, two, Some("LC"))));
    assert_eq!(sound(Codec::Aac, &[0xFF, 0xF1, 0x7C, 0x80, 0x20, 0, 0]), None, "a rate that is none");
    assert_eq!(sound(Codec::Ac3, &[0x0B, 0x77, 0, 0, 0x1C, 0x40, 0xE1]), Some((48_000, six, None)));
    assert_eq!(sound(Codec::Ac3, &[0x0B, 0x77, 0, 0, 0x54, 0x40, 0x40]), Some((44_100, two, None)));
    assert_eq!(sound(Codec::Eac3, &[0x0B, 0x77, 0x02, 0xFF, 0x3F, 0x80]), Some((48_000, six, None)));
    assert_eq!(sound(Codec::Ac3, &[0x0B, 0x77, 0, 0, 0x1C, 0xF8]), None, "an unknown syntax");
    assert_eq!(sound(Codec::Dts, &[0x7F; 8]), None);
}

#[test]
fn a_frame_in_the_middle_counts_if_another_follows_on_it() {
    let frame = [&STEREO[..], &[0x11; 572]].concat();
    let two = [&[0xFF, 0xFD, 0x11][..], &frame, &frame].concat();
    assert_eq!(audio::audio(Codec::MpegAudio, &two).unwrap().sample_rate, 48_000);
    assert_eq!(audio::audio(Codec::MpegAudio, &two[..500]), None, "it may be chance");
}

/// By x264: 720x576, interlaced, 25 frames a second; by x265: 322x182 of 10 bits, 30000/1001; by ffmpeg: MPEG-2.
const H264: &[u8] = &[
    0x00, 0x00, 0x01, 0x09, 0xF0, 0x00, 0x00, 0x01, 0x67, 0x4D, 0x40, 0x1E, 0xF4, 0x05, 0xA1, 0x26, 0xC0, 0x44, 0x00,
    0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xC8, 0x7C, 0x50, 0xAA, 0x80, 0x00, 0x00, 0x01, 0x68, 0xDE, 0x3C,
    0x80,
];
const HEVC: &[u8] = &[
    0x00, 0x00, 0x01, 0x40, 0x01, 0x0C, 0x01, 0xFF, 0xFF, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03,
    0x00, 0x00, 0x03, 0x00, 0x3C, 0x95, 0x94, 0x09, 0x00, 0x00, 0x01, 0x42, 0x01, 0x01, 0x02, 0x20, 0x00, 0x00, 0x03,
    0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3C, 0xA0, 0x0A, 0x88, 0x0C, 0x1C, 0x44, 0xCD, 0x96, 0x56,
    0x54, 0xA4, 0xC2, 0xF0, 0x16, 0x80, 0x80, 0x00, 0x01, 0xF4, 0x80, 0x00, 0x3A, 0x98, 0x04, 0x00, 0x00, 0x01, 0x44,
    0x01, 0xC0, 0x73, 0xC1, 0x89,
];
const MPEG2: &[u8] = &[
    0x00, 0x00, 0x01, 0xB3, 0x2D, 0x02, 0x40, 0x13, 0x09, 0xC4, 0x21, 0x88, 0x00, 0x00, 0x01, 0xB5, 0x18, 0x54, 0x00,
    0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0xB8, 0x00, 0x08, 0x00, 0x40,
];

#[test]
fn headers_of_pictures_are_read() {
    let Some(Details::Video(h264)) = details(Codec::H264, H264) else { panic!() };
    let expected = Video {
        width: 720,
        height: 576,
        frame_rate: FrameRate::new(25, 1),
        scan: Scan::Interlaced,
        chroma: Chroma::Yuv420,
        bit_depth: 8,
        profile: Some("Main"),
        level: 30,
    };
    assert_eq!(h264, expected);
    let Some(Details::Video(hevc)) = details(Codec::Hevc, HEVC) else { panic!() };
    let expected = Video {
        width: 322,
        height: 182,
        frame_rate: FrameRate::new(30_000, 1001),
        scan: Scan::Progressive,
        chroma: Chroma::Yuv420,
        bit_depth: 10,
        profile: Some("Main 10"),
        level: 60,
    };
    assert_eq!(hevc, expected);
    let Some(Details::Video(mpeg2)) = details(Codec::Mpeg2Video, MPEG2) else { panic!() };
    let expected = Video {
        width: 720,
        height: 576,
        frame_rate: FrameRate::new(25, 1),
        scan: Scan::Interlaced,
        chroma: Chroma::Yuv422,
        bit_depth: 8,
        profile: Some("4:2:2"),
        level: 5,
    };
    assert_eq!(mpeg2, expected);
}

#[test]
fn a_header_that_is_cut_off_says_nothing_false() {
    for (codec, whole) in [(Codec::H264, H264), (Codec::Hevc, HEVC), (Codec::Mpeg2Video, MPEG2)] {
        let Some(Details::Video(right)) = details(codec, whole) else { panic!() };
        for end in 0..whole.len() {
            if let Some(Details::Video(video)) = details(codec, &whole[..end]) {
                assert_eq!(Video { frame_rate: right.frame_rate, ..video }, right, "{codec:?} cut to {end} bytes");
            }
        }
    }
}

/// Fuzz body: any bytes as the stream of each codec.
fn fuzz(data: &[u8]) {
    for codec in [Codec::Mpeg1Video, Codec::H264, Codec::Hevc, Codec::MpegAudio, Codec::Aac, Codec::AacLatm, Codec::Ac3]
    {
        match details(codec, data) {
            Some(Details::Video(video)) => assert!(video.width > 0 && video.height > 0 && video.bit_depth <= 16),
            Some(Details::Audio(audio)) => assert!(audio.sample_rate > 0 && audio.channels != Some(0)),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics(data in prop::collection::vec(any::<u8>(), 0..600), sync in 0_usize..8) {
        let sync: &[u8] = [&[0, 0, 1, 0x67][..], &[0, 0, 1, 0x42, 1], &[0, 0, 1, 0xB3], &[0xFF, 0xFD], &[0xFF, 0xF1],
            &[0x56, 0xE0], &[0x0B, 0x77], &[]][sync];
        fuzz(&[sync, &data].concat());
    }

    #[test]
    fn no_parameter_set_that_lies_panics(
        which in 0_usize..3,
        flips in prop::collection::vec((0_usize..200, any::<u8>()), 0..8),
    ) {
        let mut data = [H264, HEVC, MPEG2][which].to_vec();
        let len = data.len();
        flips.into_iter().for_each(|(at, flip)| data[at % len] ^= flip);
        fuzz(&data);
    }

    #[test]
    fn no_table_that_lies_panics(flips in prop::collection::vec((0_usize..60, any::<u8>()), 0..6), which in 0_u16..2) {
        let mut bench = Bench::new();
        bench.pat(0, &[1]);
        let mut bytes = if which == 0 {
            section(0x42, 1, 0, &[0, 1, 0xFF, 0, 1, 0xFC, 0x80, 9, 0x48, 7, 1, 1, b'a', 3, b'b', b'c', b'd'])
        } else {
            section(2, 1, 0, &[0xE1, 0, 0xF0, 0, 0x06, 0xE1, 1, 0xF0, 6, 0x0A, 4, b'd', b'e', b'u', 0])
        };
        let end = bytes.len() - 4;
        flips.into_iter().for_each(|(at, flip)| bytes[8 + at % (end - 8)] ^= flip);
        let crc = crc32(&bytes[..end]).to_be_bytes();
        bytes[end..].copy_from_slice(&crc);
        bench.table(if which == 0 { 0x11 } else { 0x101 }, &bytes);
        prop_assert!(bench.metadata.services().len() <= 1 + 1 && bench.metadata.streams().len() <= 4);
    }
}
