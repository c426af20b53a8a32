//! What changes in an SRT source or output, and which of it while it runs.

use crate::config::plan::{SrtMode, SrtPlan};

/// Take over from `new` what can be changed while it runs.
///
/// Passphrases are among that, also the first one and the last: connections whose passphrase is still listed go on, and
/// no others.
pub(super) fn retune(plan: &mut SrtPlan, new: &SrtPlan) {
    if let (
        SrtMode::Listener { allow, max_callers, .. },
        SrtMode::Listener { allow: new_allow, max_callers: new_max_callers, .. },
    ) = (&mut plan.mode, &new.mode)
    {
        allow.clone_from(new_allow);
        *max_callers = *new_max_callers;
    }
    match (&mut plan.encryption, &new.encryption) {
        (Some(old), Some(new)) => old.passphrases.clone_from(&new.passphrases),
        (old, new) => old.clone_from(new),
    }
}

/// The keys in which it differs, and whether it does; `peer_key` and `local_key`: what the place that it calls, and the
/// port that it calls from, are called.
pub(super) fn keys(
    old: &SrtPlan,
    new: &SrtPlan,
    peer_key: &'static str,
    local_key: &'static str,
) -> Vec<(&'static str, bool)> {
    let SrtPlan { mode, latency, encryption } = old;
    let mut keys = match (mode, &new.mode) {
        (
            SrtMode::Listener { bind, allow, stream_id, max_callers },
            SrtMode::Listener { bind: new_bind, allow: new_allow, stream_id: new_id, max_callers: new_max },
        ) => vec![
            ("bind", bind != new_bind),
            ("allow", allow != new_allow),
            ("stream-id", stream_id != new_id),
            ("max-callers", max_callers != new_max),
        ],
        (
            SrtMode::Caller { local, remote, stream_id, entitled },
            SrtMode::Caller { local: new_local, remote: new_remote, stream_id: new_id, entitled: new_entitled },
        ) => {
            let both = entitled.as_ref().zip(new_entitled.as_ref());
            vec![
                (local_key, local != new_local),
                (peer_key, remote != new_remote),
                ("stream-id", both.is_none() && stream_id != new_id),
                ("subscriber", both.is_some_and(|(old, new)| old.subscriber != new.subscriber)),
                ("entitlement", both.is_some_and(|(old, new)| old.entitlement != new.entitlement)),
            ]
        }
        (SrtMode::Rendezvous { bind, remote }, SrtMode::Rendezvous { bind: new_bind, remote: new_remote }) => {
            vec![("bind", bind != new_bind), ("remote", remote != new_remote)]
        }
        // The protocol is another one, which says enough.
        _ => Vec::new(),
    };
    keys.push(("latency", *latency != new.latency));
    let several = old.passphrases().len().max(new.passphrases().len()) > 1;
    let both = encryption.as_ref().zip(new.encryption.as_ref());
    keys.extend([
        (if several { "passphrase-files" } else { "passphrase-file" }, old.passphrases() != new.passphrases()),
        ("key-length", both.is_some_and(|(old, new)| old.key_length != new.key_length)),
        ("km-refresh-rate", both.is_some_and(|(old, new)| old.km_refresh_rate != new.km_refresh_rate)),
    ]);
    keys
}
