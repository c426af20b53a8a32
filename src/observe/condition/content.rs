//! The words of conditions about pictures and sound.

use super::{Condition, tries_text};
use crate::content::ContentFault;

impl Condition {
    pub(super) const fn content_code(&self) -> &'static str {
        match self {
            Self::Content(finding) => finding.fault.name(),
            _ => "thumbnail-unavailable",
        }
    }

    pub(super) fn content_message(&self) -> Option<String> {
        let nobody = "nobody looks at pictures and sound";
        Some(match self {
            Self::Content(finding) => finding.to_string(),
            Self::ThumbnailUnavailable { error, tries, reached: false, .. } => {
                format!("{nobody}: {error} ({})", tries_text(*tries))
            }
            Self::ThumbnailUnavailable { error, tries, reached: true, .. } => {
                format!("{nobody}: the helper was closed: {error} ({})", tries_text(*tries))
            }
            _ => return None,
        })
    }

    pub(super) fn content_help(&self) -> Option<String> {
        Some(match self {
            Self::Content(finding) => match finding.fault {
                ContentFault::Black | ContentFault::Frozen => {
                    "Look at the thumbnail, and at what the encoder gets. The stream is passed on as it is.".into()
                }
                ContentFault::Silent => "Listen at the encoder's input, and see that the sound is not muted on the way \
                                         there. The stream is passed on as it is."
                    .into(),
                ContentFault::VideoMissing | ContentFault::AudioMissing => {
                    "See what the encoder or multiplexer does with this input: its tables name it, and its packets do not \
                     come. The stream is passed on as it is."
                        .into()
                }
            },
            Self::ThumbnailUnavailable { socket, reached: false, .. } => format!(
                "Run `systemctl enable --now mediaconnect-thumbnail.socket`, or without systemd `mediaconnect-thumbnail \
                 --listen {}`. It is tried again, and the relay goes on.",
                socket.display()
            ),
            Self::ThumbnailUnavailable { reached: true, .. } => {
                "See that the package ffmpeg is installed (5.1 or later), and what \
                 `journalctl -u \"mediaconnect-thumbnail@*\"` says. It is tried again, and the relay goes on."
                    .into()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::Finding;
    use crate::observe::status::Severity;

    #[test]
    fn each_fault_of_content_is_told_with_a_figure_and_a_next_step() {
        for fault in ContentFault::ALL {
            let condition =
                Condition::Content(Finding { fault, lasted: Duration::from_secs(12), stream: Some((1, 256)) });
            assert_eq!((condition.code(), condition.severity()), (fault.name(), Severity::Major));
            let (message, help) = (condition.message(), condition.help());
            assert!(message.contains("12s") && !message.ends_with('.'), "{message}");
            assert!(help.ends_with('.') && help.len() > 20 && !help.contains("  "), "{help}");
        }
    }

    #[test]
    fn who_can_t_be_reached_is_named_with_what_brings_it_back() {
        let unavailable = |reached| {
            let (socket, error) = ("/run/mediaconnect-thumbnail.sock".into(), "ffmpeg is not installed".to_owned());
            Condition::ThumbnailUnavailable { socket, error, tries: 3, reached }
        };
        for condition in [unavailable(false), unavailable(true)] {
            assert_eq!((condition.code(), condition.severity()), ("thumbnail-unavailable", Severity::Minor));
            assert!(condition.help().ends_with('.') && !condition.message().ends_with('.'));
        }
        let away = unavailable(false);
        assert!(away.message().ends_with(": ffmpeg is not installed (3 tries)"), "{}", away.message());
        assert!(away.help().contains("`mediaconnect-thumbnail --listen /run/mediaconnect-thumbnail.sock`"));
        let ended = unavailable(true);
        assert!(ended.message().contains("the helper was closed: ffmpeg is not installed (3 tries)"));
        assert!(ended.help().contains("ffmpeg"));
    }
}
