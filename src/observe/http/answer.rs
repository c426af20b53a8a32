//! Answers: a status, a body, and the headers that every answer has.

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::events::Events;
use crate::observe::metrics::Format;
use crate::supervisor::control::Refusal;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What goes back.
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    allow: Option<&'static str>,
    body: Content,
}

/// What the body is made of.
pub(super) type Body = Either<Full<Bytes>, Events>;

enum Content {
    Whole(Vec<u8>),
    Events(Box<Events>),
}

#[derive(Serialize)]
struct ErrorDoc {
    error: String,
}

impl Answer {
    /// 200 and the document.
    pub(super) fn json(document: &impl Serialize) -> Self {
        Self::document(200, document)
    }

    /// `{ "error": … }`.
    pub(super) fn error(status: u16, error: String) -> Self {
        Self::document(status, &ErrorDoc { error })
    }

    fn document(status: u16, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(mut body) => {
                body.push(b'\n');
                Self { status, content_type: JSON, allow: None, body: Content::Whole(body) }
            }
            Err(e) => Self::text(500, &format!("the answer could not be written: {e}\n")),
        }
    }

    /// Plain words.
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: TEXT, allow: None, body: Content::Whole(body.as_bytes().to_vec()) }
    }

    /// 405: the path takes other methods.
    pub(super) fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::error(405, format!("this path takes {allow}")) }
    }

    /// The supervisor's no.
    pub(super) fn refusal(refusal: &Refusal) -> Self {
        let status = match refusal {
            Refusal::NotFound(_) => 404,
            Refusal::Conflict(_) => 409,
            Refusal::Stopping => 503,
        };
        Self::error(status, refusal.to_string())
    }

    /// A scrape.
    pub(super) fn metrics(format: Format, body: String) -> Self {
        let content_type = match format {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        };
        Self { status: 200, content_type, allow: None, body: Content::Whole(body.into_bytes()) }
    }

    /// Events as they happen.
    pub(super) fn events(events: Events) -> Self {
        Self { status: 200, content_type: "text/event-stream", allow: None, body: Content::Events(Box::new(events)) }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(match self.body {
            Content::Whole(body) => Either::Left(Full::new(Bytes::from(body))),
            Content::Events(events) => Either::Right(*events),
        });
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// OpenMetrics where `Accept` wants it at least as much as plain text (RFC 9110, section 12.5.1).
pub(super) fn metrics_format(headers: &HeaderMap) -> Format {
    let (mut open, mut plain) = (0.0, 0.0);
    for range in headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f32, None);
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key.trim() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim()),
                _ => {}
            }
        }
        match media.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => open = quality.max(open),
            "text/plain" => plain = quality.max(plain),
            _ => {}
        }
    }
    if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_for(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        metrics_format(&headers)
    }

    #[test]
    fn openmetrics_comes_only_where_it_is_asked_for() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "text/plain;q=0.5, Application/OpenMetrics-Text",
        ] {
            assert_eq!(format_for(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "text/plain, application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            "application/openmetrics-text;version=2.0.0",
        ] {
            assert_eq!(format_for(accept), Format::Prometheus, "{accept}");
        }
        assert_eq!(metrics_format(&HeaderMap::new()), Format::Prometheus);
    }
}
