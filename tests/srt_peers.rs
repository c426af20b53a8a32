//! The peers of the SRT tests among themselves: that what is tried with the daemon works without it.

mod support;

use support::srt::link::Link;
use support::srt::media::{BITS_PER_SECOND, stream};
use support::srt::{Options, Program};

#[test]
fn first() {
    for (s, r) in [
        (Program::LiveTransmit, Program::LiveTransmit),
        (Program::Ffmpeg, Program::NewFfmpeg),
        (Program::Gstreamer, Program::Gstreamer),
        (Program::NewFfmpeg, Program::LiveTransmit),
    ] {
        for link in [Link::pushed(s, r), Link::pulled(s, r)] {
            let t = std::time::Instant::now();
            let options = Options::new().encrypted("0123456789ab", 24);
            let (mut sender, receiver) = link.start(&options, &options);
            let feeding = sender.feed(stream(), BITS_PER_SECOND * 8);
            feeding.wait_until_sent();
            receiver.assert_received(stream());
            eprintln!("{link:?} {:?} log: {}", t.elapsed(), sender.log().len());
        }
    }
}
