//! The service manager: readiness, status, watchdog. Without one, nothing is said and everything works.

use crate::time::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::observe::event::{Event, emit};

/// The first apply is done. `status` is shown by `systemctl status`, such as `12 flows, 1 stale`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; it ends with [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // In one datagram: systemd 253 and later want the moment with it.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => emit(Event::NotifyFailed { error: error.to_string() }),
    }
}

/// The daemon goes down.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// The line in `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Start or stop takes this much longer, counted from now.
pub fn extend_timeout(by: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        emit(Event::NotifyFailed { error: error.to_string() });
    }
}

/// A data-plane thread's sign of life.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// The thread runs: its answer to a request of [`Watchdog::round`].
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Feeds the service manager's watchdog as long as every data-plane thread answers.
#[derive(Debug)]
pub struct Watchdog {
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    heartbeat: Heartbeat,
    seen: u64,
    /// Since it was last asked in vain.
    silent_since: Option<Instant>,
}

impl Watchdog {
    /// Pause between rounds where no service manager asks for one.
    const INTERVAL: Duration = Duration::from_secs(5);

    /// How often the service manager wants to be fed: half of `WatchdogSec`; `None`: it does not.
    pub fn from_env() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|interval| interval / 2)
    }

    /// How often to call [`Self::round`]: also without a service manager, to log a stuck thread.
    pub fn interval() -> Duration {
        Self::from_env().map_or(Self::INTERVAL, |interval| interval.min(Self::INTERVAL))
    }

    /// Over these threads, in their order.
    pub fn new(shards: impl IntoIterator<Item = Heartbeat>) -> Self {
        let shard =
            |heartbeat: Heartbeat| Shard { seen: heartbeat.0.load(Ordering::Relaxed), heartbeat, silent_since: None };
        Self { shards: shards.into_iter().map(shard).collect() }
    }

    /// Once each interval, the first right after [`Self::new`]: feed if all have answered the last round, then have
    /// `request` ask all of them to beat. Whether it fed.
    pub fn round(&mut self, now: Instant, request: impl FnMut()) -> bool {
        let alive = self.check(now, request);
        if alive {
            tell(&[NotifyState::Watchdog]);
        }
        alive
    }

    fn check(&mut self, now: Instant, mut request: impl FnMut()) -> bool {
        let mut alive = true;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let seen = shard.heartbeat.0.load(Ordering::Relaxed);
            match shard.silent_since {
                // The first round has asked nobody yet.
                None => {}
                Some(since) if seen == shard.seen => {
                    alive = false;
                    emit(Event::ShardStuck { shard: number, silent_for: now.saturating_duration_since(since) });
                    continue;
                }
                Some(_) => {}
            }
            shard.seen = seen;
            shard.silent_since = Some(now);
        }
        request();
        alive
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    const ROUND: Duration = Duration::from_secs(5);

    #[test]
    fn it_is_fed_only_while_every_thread_answers() {
        let (a, b) = (Heartbeat::default(), Heartbeat::default());
        let mut watchdog = Watchdog::new([a.clone(), b.clone()]);
        let t0 = Instant::now();
        let all = || [&a, &b].into_iter().for_each(Heartbeat::beat);
        assert!(watchdog.check(t0, all), "nobody has been asked yet");
        assert!(watchdog.check(t0 + ROUND, || a.beat()), "both have answered");
        assert!(!watchdog.check(t0 + ROUND * 2, || a.beat()), "b has not");
        assert!(!watchdog.check(t0 + ROUND * 3, all), "still not");
        assert!(watchdog.check(t0 + ROUND * 4, all), "b is back");
    }

    #[test]
    fn a_late_answer_counts_once() {
        let shard = Heartbeat::default();
        let mut watchdog = Watchdog::new([shard.clone()]);
        let t0 = Instant::now();
        watchdog.check(t0, || {});
        assert!(!watchdog.check(t0 + ROUND, || {}));
        shard.beat();
        assert!(watchdog.check(t0 + ROUND * 2, || {}));
        assert!(!watchdog.check(t0 + ROUND * 3, || {}));
    }

    /// Run by the test below in a process of its own, where the environment names a service manager.
    const CHILD: &str = "MEDIACONNECT_TEST_NOTIFY";

    #[test]
    fn the_service_manager_hears_each_state_in_one_datagram() {
        if std::env::var_os(CHILD).is_some() {
            ready("2 flows");
            reloading();
            status("3 flows");
            extend_timeout(Duration::from_secs(1));
            assert_eq!(Watchdog::from_env(), Some(Duration::from_secs(5)));
            assert!(Watchdog::new([]).round(Instant::now(), || {}));
            stopping("bye");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "supervisor::service::tests::the_service_manager_hears_each_state_in_one_datagram"])
            .env(CHILD, "1")
            .env("NOTIFY_SOCKET", dir.path().join("notify"))
            .env("WATCHDOG_USEC", "10000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
        manager.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(n) = manager.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        let usec = heard[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim();
        assert!(usec.parse::<u64>().is_ok(), "{usec}");
        heard.remove(1);
        let expected = [
            "READY=1\nSTATUS=2 flows\n",
            "STATUS=3 flows\n",
            "EXTEND_TIMEOUT_USEC=1000000\n",
            "WATCHDOG=1\n",
            "STOPPING=1\nSTATUS=bye\n",
        ];
        assert_eq!(heard, expected);
    }

    #[test]
    fn without_a_service_manager_nothing_is_said() {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            tell(&[NotifyState::Ready]);
        }
    }
}
