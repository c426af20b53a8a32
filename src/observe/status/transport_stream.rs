//! What the analysis of a transport stream has found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A transport stream, as of the last second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TransportStreamDoc {
    /// TR 101 290: errors of each check since the analysis began.
    pub errors: BTreeMap<String, u64>,
    /// The checks that are in error now: from the first error until 10 s without one; of the first priority first.
    pub in_error: Vec<String>,
    /// Seconds with at least one error, by check, without zeroes.
    pub errored_seconds: BTreeMap<String, u64>,
    /// When the newest error was, by check, without those that had none; RFC 3339, UTC.
    pub last_errors: BTreeMap<String, String>,
    /// The whole stream, null packets and all.
    pub bitrate_bps: u64,
    /// The share of null packets, 0 to 1; absent: no packets came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_share: Option<f64>,
    /// As the tables name them.
    pub programs: Vec<ProgramDoc>,
    /// By PID.
    pub pids: Vec<PidDoc>,
    /// What has changed, the oldest first; the last 32 changes.
    pub changes: Vec<ChangeDoc>,
}

/// A program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProgramDoc {
    /// The program's number.
    pub number: u16,
    /// Of the service; absent: it is not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who provides the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Where its map is.
    pub pmt_pid: u16,
    /// Where its clock is; absent: it has none, or its map has not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr_pid: Option<u16>,
    /// The longest time between two PCRs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr_interval_ms: Option<f64>,
    /// How far PCRs and their arrival drift apart and together, peak to peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr_jitter_ms: Option<f64>,
    /// How far a PCR is off at most; only where the multiplex has a constant rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcr_accuracy_ns: Option<u64>,
    /// Its streams.
    pub streams: Vec<StreamDoc>,
}

/// An elementary stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamDoc {
    /// Where its packets are.
    pub pid: u16,
    /// As people write it.
    pub codec: String,
    /// ISO/IEC 13818-1, table 2-34.
    pub stream_type: u8,
    /// Over the last second.
    pub bitrate_bps: u64,
    /// ISO 639-2; absent: none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// Frames a second: `25`, `30000/1001`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<String>,
    /// `progressive` or `interlaced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<String>,
    /// `4:2:0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chroma: Option<String>,
    /// Of a picture's samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_depth: Option<u8>,
    /// Hz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// Of a sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// As the standard of the codec names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// The figures of a PID.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PidDoc {
    /// 13 bits; never that of null packets.
    pub pid: u16,
    /// Of whole packets, over the last second.
    pub bitrate_bps: u64,
    /// So far.
    pub packets: u64,
    /// Packets that did not follow on the one before.
    pub continuity_errors: u32,
    /// Packets that are scrambled.
    pub scrambled: u64,
}

/// What has changed in what a stream carries.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChangeDoc {
    /// RFC 3339, UTC.
    pub at: String,
    /// In words.
    pub what: String,
}
