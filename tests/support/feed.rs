//! Datagrams at the rate of their stream, into whatever sends them on.

use std::io::Write;
use std::net::UdpSocket;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::media::{SEVEN, sending_socket, v4};
use super::sample::stuffing;
use super::wait_for;

/// Bits of a whole datagram of transport stream.
pub const PACKET_BITS: u64 = SEVEN as u64 * 8;

/// Where datagrams go.
pub enum Inlet {
    /// A pipe: who writes waits until there is room.
    Pipe(ChildStdin),
    /// A UDP port of loopback.
    Udp(UdpSocket, u16),
}

impl Inlet {
    /// A UDP port of loopback.
    pub fn udp(port: u16) -> Self {
        Self::Udp(sending_socket(v4(port)), port)
    }

    /// Whether it could be written.
    fn write(&mut self, datagram: &[u8]) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.write_all(datagram).is_ok(),
            Self::Udp(socket, port) => {
                // What cannot be received is lost like any other datagram.
                let _ = socket.send_to(datagram, v4(*port));
                true
            }
        }
    }
}

/// A sender of datagrams that runs by itself. Stuffing follows its stream until it is stopped or dropped.
pub struct Feeding {
    begun: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    length: u64,
    thread: Option<JoinHandle<Inlet>>,
}

impl Feeding {
    /// So many datagrams, at so many bit/s, stuffing included.
    pub fn start(
        inlet: Inlet,
        length: u64,
        stream: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Self {
        Self::alone(inlet, length, stream.chain(std::iter::repeat_with(stuffing)), bits_per_second)
    }

    /// The same without stuffing.
    pub fn alone(
        inlet: Inlet,
        length: u64,
        stream: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Self {
        Self::led_until(true, inlet, length, stream, bits_per_second)
    }

    /// The same, but with stuffing until its time to begin has come.
    pub fn led(
        inlet: Inlet,
        length: u64,
        stream: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Self {
        Self::led_until(false, inlet, length, stream, bits_per_second)
    }

    /// Its time has come already, and nothing leads, if it has `begun`.
    fn led_until(
        begun: bool,
        inlet: Inlet,
        length: u64,
        stream: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Self {
        let [begun, stop] = [begun, false].map(|flag| Arc::new(AtomicBool::new(flag)));
        let sent = Arc::new(AtomicU64::new(0));
        let (start, flag, count) = (Arc::clone(&begun), Arc::clone(&stop), Arc::clone(&sent));
        let interval = Duration::from_nanos(PACKET_BITS * 1_000_000_000 / bits_per_second);
        let thread = std::thread::spawn(move || {
            let lead = std::iter::repeat_with(stuffing).take_while(|_| !start.load(Ordering::Relaxed));
            let inlet = feed(inlet, lead, interval, &flag, &AtomicU64::new(0));
            feed(inlet, stream, interval, &flag, &count)
        });
        Self { begun, stop, sent, length, thread: Some(thread) }
    }

    /// The stream's time has come.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// How many datagrams were sent so far, of the stream and of stuffing.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Wait until the whole stream has been sent.
    #[track_caller]
    pub fn wait_until_sent(&self) {
        wait_for("the stream is sent", || (self.sent() >= self.length).then_some(()));
    }

    /// Send no more; what it was sent into can be fed again.
    pub fn stop(mut self) -> Inlet {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it was not stopped before").join().expect("the sender does not panic")
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        // A pipe that is full is broken when its reader ends, which may be later: nobody waits for that.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn feed(
    mut inlet: Inlet,
    stream: impl Iterator<Item = Vec<u8>>,
    interval: Duration,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Inlet {
    let mut due = Instant::now();
    for datagram in stream {
        let now = Instant::now();
        // A pipe that was full, or a busy machine: what is late is made good, but not more than a tenth of a second.
        due = due.max(now.checked_sub(Duration::from_millis(100)).unwrap_or(now));
        std::thread::sleep(due.saturating_duration_since(now));
        if stop.load(Ordering::Relaxed) || !inlet.write(&datagram) {
            break;
        }
        sent.fetch_add(1, Ordering::Relaxed);
        due += interval;
    }
    inlet
}
