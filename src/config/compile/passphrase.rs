//! The passphrases and the content keys of a source or an output, by the names of their files.

use std::time::Duration;

use super::super::key_file::key_file;
use super::super::plan::{ContentEncryption, ContentKeys};
use super::super::secrets::{Form, KeyFile, KeyName};
use super::super::section::{At, Section};
use super::super::source::shown;
use super::Flow;

/// A peer's key is tried with each of them, and each try takes a millisecond.
const MOST_PASSPHRASES: usize = 8;

impl<'t> Flow<'_, 't> {
    /// All that are taken, the newest first. `None`: in clear, or refused. The keys `with_them` have no meaning alone.
    pub(super) fn passphrases(&mut self, s: &Section<'_, 't>, with_them: &[&str]) -> Option<Vec<KeyFile>> {
        let Some((key, names)) = self.key_names(s) else {
            for key in with_them {
                let alone = s.key_span(key).filter(|_| !s.has("passphrase-file") && !s.has("passphrase-files"));
                if let Some(at) = alone {
                    let help = "add passphrase-file = \"NAME\", or remove it".to_owned();
                    let message = format!("`{key}` without a passphrase: nothing would be encrypted");
                    self.source.error(&at, message, Some(help));
                }
            }
            return None;
        };
        Some(names.into_iter().filter_map(|name| self.key_file(key, &name, Form::Passphrase)).collect())
    }

    /// The key files of `passphrase-file` or `passphrase-files`, and which of them it was.
    fn key_names(&self, s: &Section<'_, 't>) -> Option<(&'static str, Vec<At<KeyName>>)> {
        let one = s.parsed("passphrase-file");
        let several = s.parsed_list::<KeyName>("passphrase-files");
        let Some(at) = s.key_span("passphrase-files") else { return Some(("passphrase-file", vec![one?])) };
        if s.has("passphrase-file") {
            let help = "keep one of them".to_owned();
            self.source.error(&at, "`passphrase-file` and `passphrase-files` exclude each other", Some(help));
            return None;
        }
        let names = several?;
        if s.is_empty_list("passphrase-files") {
            let help = "list key files, the newest first; or remove it to send in clear".to_owned();
            self.source.error(&at, "`passphrase-files` is empty", Some(help));
            return None;
        }
        if names.len() > MOST_PASSPHRASES {
            let message = format!("`passphrase-files` lists {}, of at most {MOST_PASSPHRASES}", names.len());
            self.source.error(&at, message, Some("remove those that nobody uses any more".into()));
        }
        for (n, At { value, span }) in names.iter().enumerate() {
            if names[..n].iter().any(|before| before.value == *value) {
                self.source.error(span, format!("`passphrase-files`: {} is listed twice", shown(value.as_str())), None);
            }
        }
        Some(("passphrase-files", names))
    }

    /// `decryption` of a source. `None`: in clear, or refused.
    pub(super) fn content_decryption(&mut self, s: &Section<'_, 't>) -> Option<ContentKeys> {
        self.content_keys(&s.table("decryption")?)
    }

    /// `encryption` of an output. `None`: in clear, or refused.
    pub(super) fn content_encryption(&mut self, s: &Section<'_, 't>) -> Option<ContentEncryption> {
        let s = s.table("encryption")?;
        let (keys, period) = (self.content_keys(&s), s.duration("key-period"));
        for (key, without, what) in [
            ("odd-key-file", "key-period", "it would never be used"),
            ("key-period", "odd-key-file", "there would be nothing to change to"),
        ] {
            if let (Some(at), false) = (s.key_span(key), s.has(without)) {
                let message = format!("`{key}` without `{without}`: {what}");
                self.source.error(&at, message, Some(format!("add `{without}`, or remove it")));
            }
        }
        Some(ContentEncryption { keys: keys?, period: period.unwrap_or(Duration::MAX) })
    }

    fn content_keys(&mut self, s: &Section<'_, 't>) -> Option<ContentKeys> {
        s.choice("scheme");
        for (key, help) in [("scheme", "write scheme = \"cissa\""), ("key-file", "write key-file = \"name\"")] {
            if !s.has(key) {
                s.missing(key, help);
            }
        }
        let mut key = |key| Some(self.key_file(key, &s.parsed(key)?, Form::ContentKey));
        let (even, odd) = (key("key-file"), key("odd-key-file"));
        Some(ContentKeys { even: even??, odd: odd.flatten() })
    }

    fn key_file(&mut self, key: &str, name: &At<KeyName>, form: Form) -> Option<KeyFile> {
        key_file(self.source, self.site.secrets, self.waits, key, name, form)
    }
}
