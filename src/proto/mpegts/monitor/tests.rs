use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::*;
use super::*;
use crate::proto::mpegts::metadata::Details;
use crate::proto::mpegts::packet::PIDS;
use crate::proto::mpegts::pcr::Pcr;
use crate::proto::mpegts::test_stream::TestStream;

type Errors = BTreeMap<&'static str, u64>;

/// A fault, and what it must count: that check, and those that it implies.
struct Fault {
    name: &'static str,
    inject: fn(&mut Vec<Packet>),
    errors: &'static [(&'static str, u64)],
}

/// Turn packets into null packets, and count the rest anew.
fn without(packets: &mut [Packet], places: &[usize]) {
    places.iter().for_each(|at| packets[*at] = packet(NULL_PID, false));
    count(packets);
}

/// Put a packet in the place of a null packet after the fifth second.
fn insert(packets: &mut [Packet], pid: u16, bytes: &[u8]) {
    let at = places(packets, NULL_PID, 5000, 6000)[0];
    packets[at] = table(pid, bytes);
    count(packets);
}

fn broken(table: u8) -> Vec<u8> {
    let mut section = section(table, 1, &[0xFF; 20]);
    section[12] ^= 1;
    section
}

fn scramble(packets: &mut [Packet], pid: u16, from: usize, to: usize) {
    places(packets, pid, from, to).into_iter().for_each(|at| packets[at][3] |= 0x80);
}

/// Move the PCRs from a moment on.
fn shift(packets: &mut [Packet], from: usize, to: usize, ticks: i64) {
    for at in places(packets, VIDEO, from, to).into_iter().filter(|at| at % UNIT == 2) {
        let pcr = Pcr::read(packets[at][6..].first_chunk().unwrap()).ticks();
        packets[at][6..12].copy_from_slice(&Pcr::new(pcr.strict_add_signed(ticks)).write());
    }
}

fn first(packets: &[Packet], pid: u16) -> usize {
    places(packets, pid, 5000, 6000)[0]
}

/// 12 s each; a unit is 32 ms. What is implied beside the check of the name:
/// - packets without a sync byte, with a transport error, or lost are missing in their PID's count;
/// - PCRs that are missing leave a step behind;
/// - a PID that is missing takes its PTSs along, and a scrambled one hides them: no PTS is awaited there;
/// - a scrambled table cannot be read, which is late only if there are several in a row.
const FAULTS: &[Fault] = &[
    Fault { name: "none", inject: |_| {}, errors: &[] },
    Fault {
        name: "a wrong sync byte on a null packet",
        inject: |p| {
            let at = first(p, NULL_PID);
            p[at][0] = 0x46;
        },
        errors: &[("sync_byte", 1)],
    },
    Fault {
        name: "a wrong sync byte",
        inject: |p| {
            let at = places(p, VIDEO, 5000, 6000)[5];
            p[at][0] = 0x46;
        },
        errors: &[("sync_byte", 1), ("continuity_count", 1)],
    },
    Fault {
        name: "three wrong sync bytes in a row, then a single right one, then two",
        inject: |p| {
            let at = places(p, NULL_PID, 5000, 6000)[0];
            [0, 1, 2, 4, 5].into_iter().for_each(|n| p[at + n][0] = 0);
        },
        errors: &[("ts_sync_loss", 1), ("sync_byte", 5)],
    },
    Fault {
        name: "no PAT for 1.2 s",
        inject: |p| {
            let at = places(p, 0, 5000, 6200);
            without(p, &at);
        },
        errors: &[("pat", 2)],
    },
    Fault {
        name: "another table on PID 0",
        inject: |p| insert(p, 0, &section(0x42, 1, &[0xFF; 8])),
        errors: &[("pat", 1)],
    },
    Fault { name: "a scrambled PAT", inject: |p| scramble(p, 0, 5000, 5032), errors: &[("pat", 1)] },
    Fault {
        name: "a lost packet",
        inject: |p| {
            let at = places(p, VIDEO, 5000, 6000)[5];
            p.remove(at);
        },
        errors: &[("continuity_count", 1)],
    },
    Fault {
        name: "a lost datagram of packets of two PIDs and one null packet",
        inject: |p| {
            let at = (5000..6000).find(|at| at % UNIT == 19).unwrap();
            p.drain(at..at + 7);
        },
        errors: &[("continuity_count", 2)],
    },
    Fault {
        name: "a packet that comes three times",
        inject: |p| {
            let at = places(p, AUDIO, 5000, 6000)[2];
            (0..2).for_each(|_| p.insert(at, p[at]));
        },
        errors: &[("continuity_count", 1)],
    },
    Fault {
        name: "a packet that comes twice",
        inject: |p| {
            let at = places(p, VIDEO, 5000, 6000)[0];
            p.insert(at, p[at]);
        },
        errors: &[],
    },
    Fault {
        name: "no PMT for 1.2 s",
        inject: |p| {
            let at = places(p, PMT_PID, 5000, 6200);
            without(p, &at);
        },
        errors: &[("pmt", 2)],
    },
    Fault { name: "two scrambled PMTs", inject: |p| scramble(p, PMT_PID, 5000, 5064), errors: &[("pmt", 2)] },
    Fault {
        name: "no sound for 5.5 s",
        inject: |p| {
            let at = places(p, AUDIO, 5000, 10_500);
            without(p, &at);
        },
        errors: &[("pid", 1), ("pts", 7)],
    },
    Fault {
        name: "transport errors on null packets",
        inject: |p| places(p, NULL_PID, 5000, 5030).into_iter().for_each(|at| p[at][1] |= 0x80),
        errors: &[("transport", 7)],
    },
    Fault {
        name: "a transport error",
        inject: |p| {
            let at = places(p, VIDEO, 5000, 6000)[5];
            p[at][1] |= 0x80;
        },
        errors: &[("transport", 1), ("continuity_count", 1)],
    },
    Fault {
        name: "a PMT with a wrong CRC",
        inject: |p| {
            let at = first(p, PMT_PID);
            p[at][15] ^= 1;
        },
        errors: &[("crc", 1)],
    },
    Fault {
        name: "an SDT, a BAT, a NIT, two EITs, a TOT and a CAT with a wrong CRC",
        inject: |p| {
            for (pid, table) in
                [(0x11, 0x42), (0x11, 0x4A), (0x10, 0x40), (0x12, 0x4E), (0x12, 0x6F), (0x14, 0x73), (0x01, 0x01)]
            {
                insert(p, pid, &broken(table));
            }
        },
        errors: &[("crc", 7)],
    },
    Fault {
        name: "a time table has no CRC",
        inject: |p| insert(p, 0x14, &[0x70, 0x70, 5, 1, 2, 3, 4, 5]),
        errors: &[],
    },
    Fault {
        name: "no PCR for 256 ms",
        inject: |p| {
            for at in places(p, VIDEO, 5000, 5224).into_iter().filter(|at| at % UNIT == 2) {
                p[at][5] &= !0x10;
            }
        },
        errors: &[("pcr_repetition", 2), ("pcr_discontinuity", 1)],
    },
    Fault {
        name: "PCRs that leap by 200 ms",
        inject: |p| shift(p, 5000, 12_000, 5_400_000),
        errors: &[("pcr_discontinuity", 1)],
    },
    Fault {
        name: "PCRs that go back by 1 s",
        inject: |p| shift(p, 5000, 12_000, -27_000_000),
        errors: &[("pcr_discontinuity", 1)],
    },
    Fault {
        name: "PCRs that leap with the indicator",
        inject: |p| {
            shift(p, 5000, 12_000, -27_000_000);
            let at = places(p, VIDEO, 5000, 6000).into_iter().find(|at| at % UNIT == 2).unwrap();
            p[at][5] |= 0x80;
        },
        errors: &[],
    },
    Fault {
        name: "three PCRs off by 10 us",
        inject: |p| [5000, 5320, 6400].into_iter().for_each(|at| shift(p, at, at + UNIT, 270)),
        errors: &[("pcr_accuracy", 3)],
    },
    Fault {
        name: "PCRs off by less than 500 ns, in both directions",
        inject: |p| {
            (5000..11_000).step_by(UNIT).for_each(|at| shift(p, at, at + UNIT, if at % 64 < 32 { 5 } else { -5 }))
        },
        errors: &[],
    },
    Fault {
        name: "no PTS of the picture for 1.5 s",
        inject: |p| {
            for at in places(p, VIDEO, 5000, 6500).into_iter().filter(|at| at % UNIT == 2) {
                p[at][12 + 7] &= !0x80;
            }
        },
        errors: &[("pts", 2)],
    },
    Fault {
        name: "a scrambled picture without a CAT for 5.5 s",
        inject: |p| scramble(p, VIDEO, 5000, 10_500),
        errors: &[("cat", 1)],
    },
    Fault {
        name: "a scrambled picture with a CAT every second",
        inject: |p| {
            scramble(p, VIDEO, 3000, 12_000);
            for second in 3..11 {
                let at = places(p, NULL_PID, second * 1000, second * 1000 + 500)[0];
                p[at] = table(1, &section(1, 0xFFFF, &[]));
            }
            count(p);
        },
        errors: &[],
    },
    Fault {
        name: "another table on PID 1",
        inject: |p| insert(p, 1, &section(0x42, 1, &[0xFF; 8])),
        errors: &[("cat", 1)],
    },
];

#[test]
fn each_fault_counts_once_with_what_it_implies_and_nothing_else() {
    let mut named: Vec<_> = FAULTS.iter().flat_map(|fault| fault.errors).map(|(check, _)| *check).collect();
    for fault in FAULTS {
        let mut packets = clean(12);
        (fault.inject)(&mut packets);
        assert_eq!(errors(&packets), fault.errors.iter().copied().collect::<Errors>(), "{}", fault.name);
    }
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), Check::ALL.len(), "every check has its fault: {named:?}");
}

#[test]
fn a_right_test_stream_has_no_errors_at_any_rate() {
    for rate in [200_000, 4_000_000, 50_000_000] {
        let (mut stream, began) = (TestStream::new(1, rate), Instant::now());
        let mut monitor = Monitor::new(began);
        while stream.due() < Duration::from_secs(8) {
            let mut datagram = [0; 7 * PACKET_LEN];
            let now = began + stream.due();
            stream.fill(&mut datagram);
            monitor.handle_datagram(&datagram, now);
            monitor.handle_timeout(now);
        }
        for check in Check::ALL {
            assert_eq!(*monitor.check(check), CheckState::default(), "{} at {rate} bit/s", check.name());
        }
        let off = monitor.bits_per_second().abs_diff(rate);
        assert!(off < rate / 50 + 2 * 7 * 188 * 8, "{} of {rate}", monitor.bits_per_second());
    }
}

#[test]
fn silence_is_one_loss_of_sync_and_the_stream_begins_anew_after_it() {
    let mut bench = Bench::new();
    let packets = clean(30);
    bench.feed(&packets[..5000]).pause(60_000);
    assert_eq!(bench.errors(), Errors::from([("ts_sync_loss", 1)]));
    assert_eq!(bench.monitor.poll_timeout(), None, "there is nothing to wait for");
    assert_eq!((bench.monitor.bits_per_second(), bench.monitor.null_share()), (0, None));
    let state = *bench.monitor.check(Check::TsSyncLoss);
    assert!(state.in_error_since.is_some(), "it lasts");
    bench.feed(&packets[7001..20_000]);
    assert_eq!(bench.errors(), Errors::from([("ts_sync_loss", 1)]));
    assert_eq!(bench.monitor.check(Check::TsSyncLoss).in_error_since, None, "10 s after its end");
    assert_eq!(bench.monitor.bits_per_second(), RATE * 188 * 8);
}

#[test]
fn a_short_pause_makes_late_what_should_have_come() {
    let mut bench = Bench::new();
    let packets = clean(10);
    bench.feed(&packets[..5000]).pause(560).feed(&packets[5000..]);
    assert_eq!(bench.errors(), Errors::from([("pat", 1), ("pmt", 1), ("pcr_repetition", 5)]));
}

#[test]
fn nothing_counts_in_the_first_second_nor_in_that_after_a_switch() {
    let mut packets = clean(10);
    for at in [500, 5500] {
        let (video, null) = (places(&packets, VIDEO, at, 10_000)[3], places(&packets, NULL_PID, at, 10_000)[2]);
        packets[video][1] |= 0x80;
        packets[null][0] = 0;
    }
    let mut bench = Bench::new();
    bench.feed(&packets[..5000]);
    assert_eq!(bench.errors(), Errors::new());
    let now = bench.now();
    bench.monitor.restart(now);
    // Another stream: its counters and its clock are others.
    bench.feed(&packets[5103..]);
    assert_eq!(bench.errors(), Errors::new());
    assert_eq!(bench.monitor.metadata().streams().len(), 2, "what is known stays");
}

#[test]
fn a_check_is_in_error_until_ten_seconds_have_been_right() {
    let mut packets = clean(40);
    for at in [5000, 5001, 7000] {
        let at = places(&packets, NULL_PID, at, 40_000)[0];
        packets[at][1] |= 0x80;
    }
    let mut bench = Bench::new();
    bench.feed(&packets[..8000]);
    let state = *bench.monitor.check(Check::Transport);
    let at = |from| bench.began + Duration::from_millis(places(&packets, NULL_PID, from, 40_000)[0] as u64);
    assert_eq!((state.count, state.errored_seconds), (2, 2), "two of them are the same packet");
    assert_eq!((state.first, state.last), (Some(at(5000)), Some(at(7000))));
    assert_eq!(state.in_error_since, state.first);
    bench.feed(&packets[8000..16_900]);
    assert_eq!(bench.monitor.check(Check::Transport).in_error_since, state.first);
    bench.feed(&packets[16_900..19_000]);
    let after = *bench.monitor.check(Check::Transport);
    assert_eq!(after, CheckState { in_error_since: None, ..state });
}

#[test]
fn figures_of_each_pid_and_of_the_clock_are_known() {
    let mut packets = clean(6);
    let at = places(&packets, AUDIO, 3000, 6000)[7];
    packets[at] = packet(NULL_PID, false);
    scramble(&mut packets, VIDEO, 5500, 5600);
    let mut bench = Bench::new();
    bench.feed(&packets);
    let pids: BTreeMap<_, _> = bench.monitor.pids().map(|figures| (figures.pid, figures)).collect();
    assert_eq!(pids.keys().copied().collect::<Vec<_>>(), [0, VIDEO, AUDIO, PMT_PID]);
    assert_eq!(pids[&AUDIO].continuity_errors, 1);
    assert_eq!(pids[&VIDEO].scrambled, places(&packets, VIDEO, 5500, 5600).len() as u64);
    assert_eq!(pids[&0].packets, 6000_u64.div_ceil(32));
    let share = bench.monitor.null_share().unwrap();
    assert!((share - 7.0 / 32.0).abs() < 0.01, "{share}");
    let rate = pids[&VIDEO].bits_per_second;
    assert!(rate.abs_diff(RATE * 188 * 8 * 18 / 32) < 20_000, "{rate}");
    assert_eq!(pids[&AUDIO].clock, None);
    let clock = pids[&VIDEO].clock.unwrap();
    assert_eq!(clock.interval, Some(Duration::from_millis(32)));
    assert!(clock.jitter.unwrap() < Duration::from_micros(1), "{clock:?}");
    assert!(clock.accuracy.unwrap() < Duration::from_nanos(100), "{clock:?}");
}

#[test]
fn jitter_is_of_arrival_and_accuracy_is_not() {
    let mut bench = Bench::new();
    for (n, packet) in clean(8).iter().enumerate() {
        // Every tenth unit is late by 7 ms.
        let late = Duration::from_millis(if (n / UNIT).is_multiple_of(10) { 7 } else { 0 });
        let now = bench.now();
        bench.monitor.handle_timeout(now);
        bench.monitor.handle_datagram(packet, now + late);
        bench.sent += 1;
    }
    let clock = bench.monitor.pids().find_map(|figures| figures.clock).unwrap();
    assert!(clock.jitter.unwrap().abs_diff(Duration::from_millis(7)) < Duration::from_micros(1), "{clock:?}");
    assert_eq!(clock.interval, Some(Duration::from_millis(39)));
    assert!(clock.accuracy.unwrap() < Duration::from_nanos(100), "{clock:?}");
    assert_eq!(bench.errors(), Errors::new());
}

#[test]
fn accuracy_is_absent_where_the_rate_is_not_constant() {
    let mut packets = clean(20);
    let mut bench = Bench::new();
    bench.feed(&packets[..6000]);
    assert!(bench.monitor.pids().find_map(|figures| figures.clock).unwrap().accuracy.is_some());
    // Null packets are left out, as many as chance will have.
    let mut state = 1_u32;
    packets.retain(|packet| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        pid_of(packet) != NULL_PID || state >> 24 < 128
    });
    let mut bench = Bench::new();
    bench.feed(&packets);
    let clock = bench.monitor.pids().find_map(|figures| figures.clock).unwrap();
    assert!(clock.jitter.is_some() && clock.accuracy.is_none(), "{clock:?}");
    assert_eq!(bench.errors(), Errors::new());
}

#[test]
fn all_pcrs_being_off_is_an_error_of_each_and_no_change_of_rate() {
    let mut packets = clean(12);
    let mut moved = 0;
    for (n, at) in (6016..11_000).step_by(UNIT).enumerate() {
        shift(&mut packets, at, at + UNIT, [100, -60, 75, -130, 40][n % 5]);
        moved += 1;
    }
    let errors = errors(&packets);
    assert_eq!(errors.keys().copied().collect::<Vec<_>>(), ["pcr_accuracy"]);
    assert_eq!(errors["pcr_accuracy"], moved);
}

#[test]
fn a_still_picture_and_private_data_may_be_silent() {
    let still = [0xE1, 0, 0xF0, 0, 0x02, 0xE1, 0, 0xF0, 5, 0x02, 3, 0x01, 0, 0, 0x06, 0xE1, 1, 0xF0, 0];
    let mut packets = clean(14);
    for at in places(&packets, PMT_PID, 0, 14_000) {
        packets[at] = table(PMT_PID, &section(2, 1, &still));
    }
    for at in places(&packets, VIDEO, 3000, 13_000).into_iter().filter(|at| at % UNIT == 2) {
        packets[at][12 + 7] = 0;
    }
    let audio = places(&packets, AUDIO, 3000, 13_000);
    without(&mut packets, &audio);
    assert_eq!(errors(&packets), Errors::new());
}

#[test]
fn a_datagram_that_is_no_transport_stream_is_wrong_sync_bytes() {
    let mut bench = Bench::new();
    bench.feed(&clean(3));
    let now = bench.now();
    bench.monitor.handle_datagram(&[0; 3 * PACKET_LEN + 5], now);
    bench.monitor.handle_datagram(&[], now);
    assert_eq!(bench.errors(), Errors::from([("sync_byte", 4), ("ts_sync_loss", 1)]));
}

#[test]
fn a_second_audio_in_the_table_is_missed_if_it_never_comes() {
    let two = [0xE1, 0, 0xF0, 0, 0x1B, 0xE1, 0, 0xF0, 0, 0x03, 0xE1, 1, 0xF0, 0, 0x03, 0xE1, 2, 0xF0, 0];
    let mut packets = clean(12);
    for at in places(&packets, PMT_PID, 0, 12_000) {
        packets[at] = table(PMT_PID, &section(2, 1, &two));
    }
    count(&mut packets);
    assert_eq!(errors(&packets), Errors::from([("pid", 2)]), "in 12 s; without a PTS so far none is late");
}

/// Bytes that a monitor holds.
fn memory(monitor: &Monitor) -> usize {
    size_of::<Monitor>()
        + monitor.psi.memory()
        + monitor.metadata.memory()
        + monitor.pids.memory()
        + monitor.clocks.capacity() * size_of::<Clock>()
        + monitor.pmts.capacity() * size_of::<(u16, Repetition)>()
}

#[test]
fn memory_is_bounded_and_small_for_a_usual_stream() {
    let mut bench = Bench::new();
    let packets = clean(12);
    bench.feed(&packets);
    let usual = memory(&bench.monitor);
    assert!(usual <= 24 << 10, "{usual} bytes");

    // All programs that there is room for, and all PIDs.
    let programs: Vec<_> = (1..=250_u16).flat_map(|n| [n.to_be_bytes(), (0xE100 + n).to_be_bytes()].concat()).collect();
    let mut bench = Bench::new();
    let mut put = |pid: u16, bytes: &[u8]| {
        for (n, part) in [&[0][..], bytes].concat().chunks(184).enumerate() {
            let mut packet = packet(pid, n == 0);
            packet[3] |= (n % 16) as u8;
            packet[4..][..part.len()].copy_from_slice(part);
            bench.feed(&[packet]);
        }
    };
    put(0, &section(0, 1, &programs));
    for program in 1..=64_u16 {
        let pid = 0x400 + program * 4;
        let stream = |n: u16| [&[0x1B][..], &(0xE000 + pid + n).to_be_bytes(), &[0xF0, 0]].concat();
        let body =
            [&(0xE000 + pid).to_be_bytes()[..], &[0xF0, 0], &(0..4).flat_map(stream).collect::<Vec<_>>()].concat();
        put(0x100 + program, &section(2, program, &body));
    }
    for n in 0..64_u16 {
        let text = [&[0x48, 63, 1, 30][..], &[b'P'; 30], &[30], &[b'N'; 30]].concat();
        let body = [&[0, 0, 0xFF][..], &(n + 1).to_be_bytes(), &[0xFC, 0x80, 65], &text].concat();
        put(0x11, &section(0x42, 1, &body));
    }
    (0x20..PIDS as u16).for_each(|pid| _ = bench.feed(&[packet(pid, true)]));
    assert_eq!(bench.monitor.pids().count(), MAX_PIDS);
    assert_eq!(bench.monitor.metadata().streams().len(), 256);
    let most = memory(&bench.monitor);
    assert!(most <= 100 << 10, "{most} bytes");
    // Those that nothing names are forgotten.
    bench.feed(&vec![packet(NULL_PID, false); 40_000]);
    let kept = bench.monitor.pids().count();
    assert!(kept > 100, "{kept}");
    let named: Vec<_> = bench.monitor.psi.streams().iter().map(|stream| stream.pid).collect();
    assert!(bench.monitor.pids().all(|f| bench.monitor.psi.follows(f.pid) || named.contains(&f.pid)));
}

#[test]
fn what_is_in_the_streams_is_read_on_the_way() {
    let mut packets = clean(3);
    // The header of a frame of MPEG-1 layer II: 48 kHz, 192 kbit/s, stereo.
    for at in places(&packets, AUDIO, 0, 3000).into_iter().filter(|at| at % UNIT == 3) {
        packets[at][18..22].copy_from_slice(&[0xFF, 0xFD, 0xA4, 0x00]);
    }
    let mut bench = Bench::new();
    bench.feed(&packets);
    let metadata = bench.monitor.metadata();
    let audio = metadata.streams().iter().find(|stream| stream.pid == AUDIO).unwrap();
    let Details::Audio(sound) = audio.details else { panic!("{audio:?}") };
    assert_eq!((sound.sample_rate, sound.channels, sound.profile), (48_000, Some(2), Some("Layer II")));
    assert_eq!(pids(&packets).len(), 5);
}

/// Fuzz body: any bytes, as packets with a sync byte and without; counts agree, and what is kept is within its bounds.
pub(crate) fn fuzz(data: &[u8]) {
    let (mut monitor, mut now) = (Monitor::new(Instant::now()), Instant::now());
    for (n, packet) in data.chunks(PACKET_LEN).enumerate() {
        let mut packet = packet.to_vec();
        packet[0] = if packet[0] % 16 == 0 { packet[0] } else { SYNC };
        now += Duration::from_millis(u64::from(packet[0] ^ data[n]));
        monitor.handle_datagram(&packet, now);
        monitor.handle_timeout(now);
    }
    let packets: u64 = monitor.pids().map(|pid| pid.packets).sum();
    assert!(packets + monitor.nulls <= monitor.places);
    assert!(
        monitor.pids().count() <= MAX_PIDS && monitor.null_share().is_none_or(|share| (0.0..=1.0).contains(&share))
    );
    assert!(monitor.metadata().streams().len() <= psi::MAX_STREAMS && monitor.clocks.len() <= psi::MAX_PROGRAMS);
    for check in Check::ALL {
        let state = monitor.check(check);
        assert_eq!((state.count == 0, state.count == 0), (state.first.is_none(), state.errored_seconds == 0));
    }
}

proptest! {
    #[test]
    fn nothing_panics(data in prop::collection::vec(any::<u8>(), 0..4000)) {
        fuzz(&data);
    }

    /// Bytes turned over anywhere in a right stream.
    #[test]
    fn no_stream_that_lies_panics(flips in prop::collection::vec((0_usize..400 * PACKET_LEN, any::<u8>()), 0..300)) {
        let mut packets = clean(1);
        packets.truncate(400);
        for (at, flip) in flips {
            packets[at / PACKET_LEN][at % PACKET_LEN] ^= flip;
        }
        fuzz(packets.as_flattened());
    }
}
