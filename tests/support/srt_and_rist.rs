//! Other people's programs that send by SRT and RIST to flows of a machine, and receive from others.

use super::ends::Got;
use super::feed::{Feeding, Inlet};
use super::machine::Machine;
use super::media::{SEVEN, v4};
use super::rist::{self, Options, PASSPHRASE, Profile, Program};
use super::srt::{self, Place};
use super::{sample, wait_for};

/// The programs, and the numbered datagrams that they send and receive.
pub struct SrtAndRist {
    feedings: Vec<Feeding>,
    /// What came in by SRT, and by RIST.
    gots: [Got; 2],
    _senders: (srt::ends::Sender, rist::ends::Sender),
    by_srt: Vec<srt::ends::Receiver>,
    by_rist: rist::ends::Receiver,
    /// The number of the first datagram that counts.
    since: u64,
}

impl SrtAndRist {
    /// SRT in, RIST in, SRT out, RIST out: where each is, and where it leads or comes from.
    const PORTS: [[u16; 2]; 4] = [[4000, 4010], [4020, 4030], [4040, 4050], [4060, 4070]];
    const ENDLESS: u64 = 1_000_000;
    const RATE: u64 = 5_000_000;

    /// The flows: four of them. `buffer`: of RIST, in ms; it has to outlast a restart on a busy machine.
    pub fn write_flows(machine: &Machine, buffer: u32) {
        machine.write_secret("key", PASSPHRASE);
        let [srt_in, rist_in, srt_out, rist_out] = Self::PORTS;
        let srt = |section, port| {
            let options = srt::Options::new().encrypted(PASSPHRASE, 16).keys("km-refresh-rate = 400");
            srt::ends::srt_section(section, Place::Listener(port), &options)
        };
        let rist = format!("profile = 'main'\nlatency = '{buffer}ms'\npassphrase-file = 'key'\n");
        let source = |port, protocol| format!("[sources.main]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{port}'\n");
        let output =
            |port, protocol| format!("[outputs.out]\nprotocol = '{protocol}'\ndestination = '127.0.0.1:{port}'\n");
        machine.write_flow("srt-in", &(srt("sources.main", srt_in[0]) + &output(srt_in[1], "udp")));
        machine.write_flow("rist-in", &(source(rist_in[0], "rist") + &rist + &output(rist_in[1], "udp")));
        let many = "max-callers = 2\n";
        machine.write_flow("srt-out", &(source(srt_out[1], "udp") + &srt("outputs.out", srt_out[0]) + many));
        machine.write_flow("rist-out", &(source(rist_out[1], "udp") + &output(rist_out[0], "rist") + &rist));
    }

    /// Start them, and wait until all have begun. `again`: those that connect again.
    #[track_caller]
    pub fn start(again: bool, buffer: u32) -> Self {
        use srt::Program::{Ffmpeg, LiveTransmit};
        let [srt_in, rist_in, srt_out, rist_out] = Self::PORTS;
        let numbered = || (0..Self::ENDLESS).map(sample::numbered);
        let options = srt::Options { again, ..srt::Options::new().encrypted(PASSPHRASE, 16) };
        let gots = [srt_in, rist_in].map(|[_, to]| Got::at(to));
        let mut sender = srt::ends::Sender::start(LiveTransmit, Place::Caller(srt_in[0]), &options);
        let mut feedings = vec![sender.feed_with(Self::ENDLESS, numbered(), Self::RATE)];
        let rist_options = Options { buffer, ..Options::new(Profile::Main(Some(16))) };
        let mut rist_sender = rist::ends::Sender::start(Program::Librist, &[v4(rist_in[0])], &rist_options);
        feedings.push(rist_sender.feed_for(&gots[1], Self::ENDLESS, numbered(), Self::RATE));
        let start = |program| srt::ends::Receiver::start(program, Place::Caller(srt_out[0]), &options);
        let by_srt = [if again { LiveTransmit } else { Ffmpeg }, LiveTransmit].map(start).into();
        let by_rist = rist::ends::Receiver::start(Program::Librist, &[v4(rist_out[0])], &rist_options);
        let feed = |port| Feeding::start(Inlet::udp(port), Self::ENDLESS, numbered(), Self::RATE);
        feedings.extend([srt_out[1], rist_out[1]].map(feed));
        let this = Self { feedings, gots, _senders: (sender, rist_sender), by_srt, by_rist, since: 0 };
        this.wait_for_more(&[0; 5]);
        this
    }

    /// What was sent so far does not count: on a busy machine the programs begin with gaps of their own.
    pub fn count_from_now(self) -> Self {
        Self { since: self.sent(), ..self }
    }

    /// Numbers sent so far, by whoever has sent most.
    fn sent(&self) -> u64 {
        self.feedings.iter().map(Feeding::sent).max().unwrap()
    }

    /// Bytes that each has received.
    pub fn lengths(&self) -> Vec<u64> {
        let by_srt = self.by_srt.iter().map(|receiver| receiver.length());
        self.gots.iter().chain([&self.by_rist.got]).map(Got::length).chain(by_srt).collect()
    }

    /// Wait until each has received more than that.
    #[track_caller]
    pub fn wait_for_more(&self, before: &[u64]) {
        // srt-live-transmit keeps some of it back.
        let more = || self.lengths().iter().zip(before).all(|(now, before)| *now > before + 20 * SEVEN as u64);
        wait_for("all peers receive", || more().then_some(()));
    }

    /// The numbers that each has received, of those that count, when what is sent now has arrived.
    #[track_caller]
    pub fn numbers(&self) -> Vec<(&'static str, Vec<u64>)> {
        let sent = self.sent();
        let mut all = Vec::new();
        for (name, got) in ["srt in", "rist in"].into_iter().zip(&self.gots).chain([("rist out", &self.by_rist.got)]) {
            got.wait_for_number(sent);
            all.push((name, got.numbers()));
        }
        for receiver in &self.by_srt {
            receiver.wait_for_number(sent);
            all.push(("srt out", receiver.numbers()));
        }
        all.iter_mut().for_each(|(_, numbers)| numbers.retain(|number| *number >= self.since));
        all
    }

    /// Nobody has missed anything.
    #[track_caller]
    pub fn assert_gapless(&self) {
        for (name, numbers) in self.numbers() {
            println!("{name}: {} packets", numbers.len());
            assert_eq!(numbers.windows(2).find(|pair| pair[1] != pair[0] + 1), None, "{name}");
        }
    }
}
