//! The same work for many cases, some at once.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Mutex;

/// How many cases are tried side by side, where time matters little.
const AT_ONCE: usize = 6;

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
