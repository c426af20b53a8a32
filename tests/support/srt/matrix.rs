//! The same work for every program, in every role, with every key length.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Mutex;

use super::link::Link;
use super::media::{BITS_PER_SECOND, stream};
use super::{Options, Program};

/// The passphrase of every test.
pub const PASSPHRASE: &str = "correct horse battery";
/// Faster than the stream is, so that its 20 s take 5.
pub const RATE: u64 = 4 * BITS_PER_SECOND;
/// How many connections are tried side by side, where time matters little.
const AT_ONCE: usize = 6;

/// One of the matrix: what we do, with whom, and how it is encrypted.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub us: Program,
    pub peer: Program,
    pub we_send: bool,
    pub we_listen: bool,
    /// Bytes; `None`: not encrypted.
    pub key_length: Option<u8>,
}

impl Case {
    /// All we do with this peer.
    pub fn all(us: Program, peer: Program) -> Vec<Self> {
        let mut all = Vec::new();
        for key_length in [None, Some(16), Some(24), Some(32)] {
            for (we_send, we_listen) in [(false, false), (false, true), (true, false), (true, true)] {
                all.push(Self { us, peer, we_send, we_listen, key_length });
            }
        }
        all
    }

    /// Who sends, who receives, and who calls.
    pub fn link(self) -> Link {
        let [sender, receiver] = if self.we_send { [self.us, self.peer] } else { [self.peer, self.us] };
        if self.we_send == self.we_listen { Link::pulled(sender, receiver) } else { Link::pushed(sender, receiver) }
    }

    /// A real transport stream comes as it was sent.
    #[track_caller]
    pub fn run(self) {
        let options = self.key_length.map_or_else(Options::new, |length| Options::new().encrypted(PASSPHRASE, length));
        let (mut sender, receiver) = self.link().start(&options, &options);
        let _feeding = sender.feed(stream(), RATE);
        receiver.assert_received(stream());
    }
}

/// Do it for all of them, some side by side, and give what came of each. If any fail, these are named at the end.
#[track_caller]
pub fn for_all<T: Debug + Copy + Send, R: Send>(cases: Vec<T>, run: impl Fn(T) -> R + Sync) -> Vec<(T, R)> {
    for_all_with(AT_ONCE, cases, run)
}

/// The same with so many side by side.
#[track_caller]
pub fn for_all_with<T: Debug + Copy + Send, R: Send>(
    at_once: usize,
    cases: Vec<T>,
    run: impl Fn(T) -> R + Sync,
) -> Vec<(T, R)> {
    let (waiting, failed) = (Mutex::new(VecDeque::from(cases)), Mutex::new(Vec::new()));
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().expect("nobody panics with this lock").pop_front();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = next() {
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(case))) {
                        Ok(outcome) => done.lock().expect("nobody panics with this lock").push((case, outcome)),
                        Err(_) => failed.lock().expect("nobody panics with this lock").push(case),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with this lock");
    assert!(failed.is_empty(), "these failed: {failed:#?}");
    done.into_inner().expect("nobody panics with this lock")
}
