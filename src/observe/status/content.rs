//! What was seen of the pictures, and heard of the sound.

use serde::{Deserialize, Serialize};

/// Whether pictures and sound are as they should be. Absent: it is not looked for, or not known now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContentDoc {
    /// The picture has been black for too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub black: Option<bool>,
    /// The picture has not moved for too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// There has been no sound for too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<bool>,
    /// A program names a picture that does not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_missing: Option<bool>,
    /// A program names a sound that does not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_missing: Option<bool>,
    /// Datagrams that the helper did not take in time, and that it has not seen.
    pub packets_dropped: u64,
    /// How often the helper could not be had, or ended.
    pub helper_failures: u64,
}

/// A small picture of what is on air.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ThumbnailDoc {
    /// Where it is, on this server: a JPEG.
    pub path: String,
    /// When it was taken; RFC 3339, UTC.
    pub time: String,
}
