//! What tests of files share.

use nix::unistd::{Uid, setfsuid};

/// Run as a user to whom nothing belongs, as far as files go; whoever runs the tests, if that is not root.
pub(crate) fn as_nobody<T>(run: impl FnOnce() -> T) -> T {
    let own = Uid::effective();
    if own.is_root() {
        // Of this thread alone, and of those it starts.
        setfsuid(Uid::from_raw(65534));
    }
    let result = run();
    setfsuid(own);
    result
}
