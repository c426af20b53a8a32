//! A key in memory.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeyName;

/// A key: it is wiped when it is dropped, and its text shows nothing of it. Equal keys take as long to compare as others
/// of the same length.
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// In place of one that only the daemon may read: it is no key.
    fn unread() -> Self {
        Self::new(&[])
    }

    /// A key of a test.
    #[cfg(test)]
    pub(crate) fn for_test(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Secret {
    /// Whether these bytes are the key, in a time that tells nothing of it but its length.
    pub fn is(&self, bytes: &[u8]) -> bool {
        let (a, b) = (self.bytes(), bytes);
        let differ = a.iter().zip(b).fold(0, |differ, (a, b)| black_box(differ | a ^ b));
        a.len() == b.len() && differ == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A passphrase, a key or a community, and the file that it was in. Two are equal if both are.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    name: Arc<str>,
    secret: Arc<Secret>,
}

impl KeyFile {
    pub(in crate::config) fn new(name: &KeyName, secret: Arc<Secret>) -> Self {
        Self { name: name.as_str().into(), secret }
    }

    pub(in crate::config) fn unread(name: &KeyName) -> Self {
        Self::new(name, Arc::new(Secret::unread()))
    }

    /// The file, as it is named in the configuration: for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was in it: by a passphrase a connection knows whether it still is a right one, whatever its file is called.
    pub fn secret(&self) -> &Arc<Secret> {
        &self.secret
    }
}

/// A [`KeyFile`] as it is handed over to the daemon's next process, through memory that nobody else sees.
#[derive(Serialize, Deserialize)]
pub struct HandedKey {
    name: String,
    secret: Zeroizing<Vec<u8>>,
}

impl From<&KeyFile> for HandedKey {
    fn from(key: &KeyFile) -> Self {
        Self { name: key.name().to_owned(), secret: Zeroizing::new(key.secret().bytes().to_vec()) }
    }
}

impl From<HandedKey> for KeyFile {
    fn from(key: HandedKey) -> Self {
        Self { name: key.name.into(), secret: Arc::new(Secret::new(&key.secret)) }
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({:?})", self.name)
    }
}
