//! The figures of a receiver, of a sender, and of their legs.

/// What came through a tunnel, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelStats {
    /// No packets of a tunnel, or with something in them that makes no sense: perhaps the peer uses the simple profile.
    pub invalid: u64,
    /// In clear, where there is a passphrase.
    pub in_clear: u64,
    /// Encrypted, and there is no key for it: no passphrase, or the key is not derived yet.
    pub undecrypted: u64,
    /// Encrypted, and what came out makes no sense: the passphrase is wrong.
    pub garbage: u64,
    /// Keep-alives.
    pub keep_alives: u64,
    /// Something that is of no use here: whole IP packets, authentication.
    pub other: u64,
    /// Keys to send with, after the first one.
    pub send_keys: u64,
}
