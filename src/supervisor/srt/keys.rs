//! Keys derived from passphrases, away from every thread that has something else to do.

use tokio::sync::mpsc::UnboundedSender;

use crate::config::secrets::KeyFile;
use crate::config::value::FlowName;
use crate::flow::srt::Part;
use crate::proto::srt::crypto::Kek;
use crate::proto::srt::km::{KeyLength, Salt};

/// Who asked for keys, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) struct Job {
    pub(in crate::supervisor) flow: FlowName,
    pub(in crate::supervisor) part: Part,
    pub(in crate::supervisor) work: Work,
}

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Work {
    /// A call, with the number of its question.
    Call(u64),
    /// A connection, whose peer chose the salt.
    Peer(u64),
}

/// The keys, in the order of the passphrases.
pub(in crate::supervisor) struct Derived {
    pub(in crate::supervisor) job: Job,
    pub(in crate::supervisor) keks: Vec<Kek>,
}

/// Where keys are asked for.
#[derive(Debug)]
pub(in crate::supervisor) struct Keys(UnboundedSender<Derived>);

impl Keys {
    pub(in crate::supervisor) fn new(answers: UnboundedSender<Derived>) -> Self {
        Self(answers)
    }

    /// Derive a key of each passphrase; the answer comes by the channel.
    pub(in crate::supervisor) fn derive(&self, job: Job, passphrases: Vec<KeyFile>, salt: Salt, length: KeyLength) {
        let answers = self.0.clone();
        tokio::task::spawn_local(async move {
            let derive = move || {
                passphrases.iter().map(|passphrase| Kek::derive(passphrase.secret().bytes(), salt, length)).collect()
            };
            // It does not panic; and when the daemon stops nobody waits for it.
            let keks = tokio::task::spawn_blocking(derive).await.unwrap_or_default();
            let _ = answers.send(Derived { job, keks });
        });
    }
}
