//! Key files that configuration files name.

use super::secrets::{Form, KeyFile, KeyName, SecretError, Secrets};
use super::section::At;
use super::source::Source;

/// The file that stands behind `key`. `None`: it is refused, which is reported, or it is being written, and `waits` says so.
pub(super) fn key_file(
    source: &Source<'_>,
    secrets: &Secrets,
    waits: &mut bool,
    key: &str,
    At { value: name, span }: &At<KeyName>,
    form: Form,
) -> Option<KeyFile> {
    match secrets.find(name, form) {
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
