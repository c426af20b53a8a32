//! The way to the daemon: HTTP/1.1 over its control socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Code, Failure};
use crate::observe::http::encode;

/// Documents are there at once.
const READ_TIME: Duration = Duration::from_secs(10);
/// A reload opens sockets and resolves names.
const ACT_TIME: Duration = Duration::from_secs(120);

/// A daemon, by its control socket.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// What came back.
struct Answer {
    status: u16,
    body: Bytes,
}

#[derive(Deserialize)]
struct ErrorDoc {
    error: String,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// A document. Fails with 2 where there is no such thing, else with 3.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.within(READ_TIME, Method::GET, path).await?;
        match answer.status {
            200 => self.parse(&answer),
            404 => Err(Failure::new(Code::Usage, answer.error())),
            _ => Err(Failure::new(Code::Unreachable, answer.error())),
        }
    }

    /// A command's outcome. Fails with 1 where it was refused, with 3 where nobody was there to ask.
    pub(super) async fn act<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.within(ACT_TIME, Method::POST, path).await?;
        match answer.status {
            200 => self.parse(&answer),
            _ => Err(Failure::new(Code::No, answer.error())),
        }
    }

    /// Server-sent events, each without the empty line that ends it, until the daemon ends the stream. `last`: the id of
    /// the event after which to go on. Fails with 3.
    pub(super) async fn stream(
        &self,
        path: &str,
        last: Option<&str>,
        each: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.no_connection(&e))?;
        let broken = |e: hyper::Error| self.unreachable(&format!("the connection broke: {e}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::builder().uri(path).header(HOST, "localhost");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|e| Failure::new(Code::Usage, format!("{path}: {e}")))?;
        let read = async {
            let response = tokio::time::timeout(READ_TIME, sender.send_request(request)).await;
            let response = response.map_err(|_| self.unreachable("no answer"))?.map_err(broken)?;
            let (status, mut body) = (response.status().as_u16(), response.into_body());
            if status != 200 {
                let body = body.collect().await.map_err(broken)?.to_bytes();
                return Err(Failure::new(Code::Unreachable, Answer { status, body }.error()));
            }
            let mut waiting = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                waiting.extend_from_slice(&data);
                while let Some(end) = waiting.windows(2).position(|pair| pair == b"\n\n") {
                    each(&String::from_utf8_lossy(&waiting[..end]));
                    waiting.drain(..end + 2);
                }
            }
            Ok(())
        };
        tokio::pin!(read);
        tokio::select! {
            done = &mut read => done,
            // The connection ends before the last byte of its answer is handed on.
            _ = connection => read.await,
        }
    }

    fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body).map_err(|e| {
            self.unreachable(&format!("the answer is not understood ({e}); is the daemon of another version?"))
        })
    }

    async fn within(&self, time: Duration, method: Method, path: &str) -> Result<Answer, Failure> {
        tokio::time::timeout(time, self.exchange(method, path))
            .await
            .unwrap_or_else(|_| Err(self.unreachable(&format!("no answer within {} s", time.as_secs()))))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Answer, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.no_connection(&e))?;
        let broken = |e: hyper::Error| self.unreachable(&format!("the connection broke: {e}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
        let request = request.map_err(|e| Failure::new(Code::Usage, format!("{path}: {e}")))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok(Answer { status, body })
        };
        tokio::pin!(answer);
        tokio::select! {
            done = &mut answer => done.map_err(broken),
            // The connection ends before the last byte of its answer is handed on.
            ended = connection => match answer.await {
                Ok(done) => Ok(done),
                Err(e) => Err(broken(ended.err().unwrap_or(e))),
            }
        }
    }

    fn no_connection(&self, error: &io::Error) -> Failure {
        let what = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "the daemon is not running, or its runtime directory is another (--runtime)"
            }
            io::ErrorKind::PermissionDenied => {
                "this user may not open the control socket; `readers` and `operators` in [control] of \
                 mediaconnect.toml say which groups may"
            }
            _ => "the daemon can't be reached",
        };
        let reason = error.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        Failure::new(Code::Unreachable, format!("{what}: {}: {reason}", self.socket.display()))
    }

    fn unreachable(&self, what: &str) -> Failure {
        Failure::new(Code::Unreachable, format!("{}: {what}", self.socket.display()))
    }
}

impl Answer {
    fn error(&self) -> String {
        serde_json::from_slice::<ErrorDoc>(&self.body)
            .map_or_else(|_| format!("the daemon answered with HTTP status {}", self.status), |doc| doc.error)
    }
}

/// The path of a flow's document, or of an act upon it with its further segments.
pub(super) fn flow_path(flow: &str, rest: &[&str]) -> String {
    let mut path = format!("/v1/flows/{}", encode(flow));
    for segment in rest {
        path.push('/');
        path.push_str(&encode(segment));
    }
    path
}
