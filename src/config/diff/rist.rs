//! What changes in a RIST source or output, and which of it while it runs.

use crate::config::plan::{RistInput, RistProfile, RistRoute};

/// Take over from `new` what can be changed while it runs.
pub(super) fn retune_input(input: &mut RistInput, new: &RistInput) {
    input.allow.clone_from(&new.allow);
    input.latency = new.latency;
    retune_profile(&mut input.profile, &new.profile);
}

/// The same for an output.
pub(super) fn retune_route(route: &mut RistRoute, new: &RistRoute) {
    route.latency = new.latency;
    retune_profile(&mut route.profile, &new.profile);
}

/// Keys are derived anew while it runs. From clear to encrypted, and back, it is another stream.
fn retune_profile(profile: &mut RistProfile, new: &RistProfile) {
    if let (RistProfile::Main { encryption: Some(old) }, RistProfile::Main { encryption: Some(new) }) = (profile, new) {
        old.clone_from(new);
    }
}

/// The keys in which a source differs, and whether it does.
pub(super) fn input_keys(old: &RistInput, new: &RistInput) -> Vec<(&'static str, bool)> {
    let RistInput { bind, multicast_sources, allow, latency, profile } = old;
    let mut keys = vec![
        ("bind", *bind != new.bind),
        ("multicast-sources", *multicast_sources != new.multicast_sources),
        ("allow", *allow != new.allow),
        ("latency", *latency != new.latency),
    ];
    keys.extend(profile_keys(profile, &new.profile));
    keys
}

/// The same for an output.
pub(super) fn route_keys(old: &RistRoute, new: &RistRoute) -> Vec<(&'static str, bool)> {
    let RistRoute { destination, legs, latency, profile, source_port } = old;
    let one_place = legs.is_empty() && new.legs.is_empty();
    let mut keys = vec![
        ("destination", one_place && *destination != new.destination),
        ("legs", *legs != new.legs),
        ("source-port", *source_port != new.source_port),
        ("latency", *latency != new.latency),
    ];
    keys.extend(profile_keys(profile, &new.profile));
    keys
}

fn profile_keys(old: &RistProfile, new: &RistProfile) -> [(&'static str, bool); 3] {
    let is_main = |profile: &RistProfile| matches!(profile, RistProfile::Main { .. });
    let (was, is) = (old.passphrases(), new.passphrases());
    let several = was.len().max(is.len()) > 1;
    let both = old.encryption().zip(new.encryption());
    [
        ("profile", is_main(old) != is_main(new)),
        (if several { "passphrase-files" } else { "passphrase-file" }, was != is),
        ("key-length", both.is_some_and(|(old, new)| old.key_length != new.key_length)),
    ]
}

#[cfg(test)]
mod tests;
