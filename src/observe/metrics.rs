//! The status documents as Prometheus text.

use super::status::{FlowDoc, StatusDoc};

/// The form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text exposition format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The text (the other branch's version of this file replaces this one).
pub fn render(status: &StatusDoc, _flows: &[FlowDoc], format: Format) -> String {
    let end = if format == Format::OpenMetrics { "# EOF\n" } else { "" };
    format!("mediaconnect_build_info{{version=\"{}\"}} 1\n{end}", status.version)
}
