//! Clocks, and sleep to the microsecond.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).unwrap_or_else(|error| panic!("clock_gettime: {error}"));
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Nanoseconds of a clock that only goes forward.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970: the clock of the kernel's receive stamps.
pub fn realtime_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME)
}

/// Sleeps until [`monotonic_ns`] is that; a signal may end it early.
pub fn sleep_until(monotonic_ns: u64) {
    let at = TimeSpec::new((monotonic_ns / 1_000_000_000) as i64, (monotonic_ns % 1_000_000_000) as i64);
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &at);
}

/// Lets the calling thread's sleeps end on time, not up to 50 µs late as is usual.
pub fn exact_sleep() {
    let _ = nix::sys::prctl::set_timerslack(1);
}
