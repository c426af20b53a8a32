//! Answers: a status, a body, and the headers that every answer has.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use super::events::Events;
use super::page::File;
use super::route::Allowed;
use crate::observe::metrics::Format;
use crate::supervisor::control::Refusal;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const TEXT: &str = "text/plain; charset=utf-8";

/// What goes back.
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    /// Beside those that every answer has.
    headers: &'static [(HeaderName, &'static str)],
    body: Body,
}

/// What follows the head.
pub(super) enum Body {
    /// All of it; `None`: it is written.
    Whole(Option<Bytes>),
    /// As it comes, until the other end is dropped.
    Stream(mpsc::Receiver<Bytes>),
    /// What happens.
    Events(Box<Events>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Stream(stream) => stream.poll_recv(cx),
            Self::Events(events) => return Pin::new(&mut **events).poll_frame(cx),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) | Self::Events(_) => SizeHint::default(),
        }
    }
}

/// What a browser may do with the dashboard: run its own script, nothing else, and turn no text into HTML.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

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
                Self::whole(status, JSON, body)
            }
            Err(e) => Self::text(500, &format!("the answer could not be written: {e}\n")),
        }
    }

    /// Plain words.
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self::whole(status, TEXT, body.as_bytes().to_vec())
    }

    /// A picture.
    pub(super) fn jpeg(picture: Bytes) -> Self {
        Self::whole(200, "image/jpeg", picture)
    }

    /// A file of the dashboard.
    pub(super) fn page(file: &File) -> Self {
        let headers = &[(CONTENT_SECURITY_POLICY, PAGE_POLICY), (REFERRER_POLICY, "no-referrer")];
        Self { headers, ..Self::whole(200, file.content_type, Bytes::from_static(file.text.as_bytes())) }
    }

    /// Server-sent events (HTML Living Standard, section 9.2), until the other end of `events` is dropped.
    pub(super) fn stream(events: mpsc::Receiver<Bytes>) -> Self {
        Self { status: 200, content_type: EVENTS, headers: &[], body: Body::Stream(events) }
    }

    /// Events as they happen.
    pub(super) fn events(events: Events) -> Self {
        Self { status: 200, content_type: EVENTS, headers: &[], body: Body::Events(Box::new(events)) }
    }

    fn whole(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, headers: &[], body: Body::Whole(Some(body.into())) }
    }

    /// 405: the path takes other methods.
    pub(super) fn method(allowed: Allowed) -> Self {
        let (allow, headers): (_, &'static [_]) = match allowed {
            Allowed::Read => ("GET, HEAD", &[(ALLOW, "GET, HEAD")]),
            Allowed::Act => ("POST", &[(ALLOW, "POST")]),
        };
        Self { headers, ..Self::error(405, format!("this path takes {allow}")) }
    }

    /// 401: without the token. A browser asks for it as a password.
    pub(super) fn unauthorized() -> Self {
        let headers = &[(WWW_AUTHENTICATE, "Bearer"), (WWW_AUTHENTICATE, "Basic realm=\"mediaconnect\"")];
        Self { headers, ..Self::error(401, "this takes the token of [http] token-file".to_owned()) }
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
        Self::whole(200, content_type, body)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        for (name, value) in self.headers {
            headers.append(name, HeaderValue::from_static(value));
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
