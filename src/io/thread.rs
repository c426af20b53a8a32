//! What a thread asks of the scheduler.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread, as the calls name it.
const THIS: Pid = Pid::from_raw(0);

/// Run this thread on one CPU only, by the kernel's number.
///
/// # Errors
/// The CPU is not there, is offline or is none of those that this thread may use (nothing is changed then); or a
/// sandbox forbids the call.
pub fn pin_current_thread(cpu: u16) -> io::Result<()> {
    // The kernel itself would step over a mask that was set from outside, such as systemd's CPUAffinity=.
    if !sched_getaffinity(THIS)?.is_set(cpu.into()).unwrap_or(false) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is not among the CPUs that this process may use"));
    }
    let mut only = CpuSet::new();
    only.set(cpu.into())?;
    Ok(sched_setaffinity(THIS, &only)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<u16> {
        let set = sched_getaffinity(THIS).unwrap();
        (0..CpuSet::count() as u16).filter(|cpu| set.is_set((*cpu).into()).unwrap()).collect()
    }

    /// What is done to a thread of its own harms no other test.
    fn on_a_thread(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_thread_runs_on_the_cpu_it_is_pinned_to() {
        on_a_thread(|| {
            let last = *allowed().last().unwrap();
            pin_current_thread(last).unwrap();
            assert_eq!(allowed(), [last]);
        });
    }

    #[test]
    fn a_cpu_that_can_not_be_had_leaves_the_thread_as_it_was() {
        on_a_thread(|| {
            let before = allowed();
            let absent = (0..).find(|cpu| !before.contains(cpu)).unwrap();
            for cpu in [absent, CpuSet::count() as u16, 4095] {
                assert!(pin_current_thread(cpu).is_err(), "{cpu}");
            }
            assert_eq!(allowed(), before);
        });
    }
}
