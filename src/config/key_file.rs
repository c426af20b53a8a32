//! Key files that configuration files name.

use super::secrets::{Found, KeyFile, KeyName, SecretError, Secrets};
use super::section::At;
use super::source::Source;

/// What a secret is for: one of the methods of [`Secrets`].
pub(super) type Find = fn(&Secrets, &KeyName) -> Result<Found, SecretError>;

/// The file that stands behind `key`. `None`: it is refused, which is reported, or it is being written, and `waits` says so.
pub(super) fn key_file(
    source: &Source<'_>,
    secrets: &Secrets,
    waits: &mut bool,
    key: &str,
    At { value: name, span }: &At<KeyName>,
    find: Find,
) -> Option<KeyFile> {
    match find(secrets, name) {
        Ok(found) => {
            if found.from_credentials {
                source.note_credential(key, name.as_str(), span);
            }
            Some(KeyFile::new(name, found.secret))
        }
        Err(error) if secrets.may_be_readable(&error) => {
            let help = "ask as root or as the daemon's user".to_owned();
            source.warning(span, format!("`{key}`: {error}; it is not checked"), Some(help));
            Some(KeyFile::unread(name))
        }
        Err(SecretError::Busy(_)) => {
            *waits = true;
            None
        }
        Err(error) => {
            source.error(span, format!("`{key}`: {error}"), error.help());
            None
        }
    }
}
