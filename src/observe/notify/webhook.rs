//! A document, posted.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Fault;
use crate::config::value::{Host, Url};
use crate::observe::feed::Told;

pub(super) async fn post(url: &Url, told: &Told) -> Result<(), Fault> {
    let never = |error: &dyn std::fmt::Display| Fault::Never(error.to_string());
    let body = serde_json::to_vec(&told.doc).map_err(|e| never(&e))?;
    let request = Request::post(&url.path)
        .header(HOST, url.host.to_string())
        .header(USER_AGENT, concat!("mediaconnect/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| never(&e))?;
    let later = |error: &dyn std::fmt::Display| Fault::Later(format!("{}: {error}", url.host));
    let host = match &url.host.host {
        Host::Address(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    let stream = TcpStream::connect((host, url.host.port)).await.map_err(|e| later(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| later(&e))?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut answer => response,
        // The connection ends before its answer is handed on.
        _ = connection => answer.await,
    };
    // The path is not told: with many services it is the key.
    judge(response.map_err(|e| later(&e))?.status()).map_err(|fault| match fault {
        Fault::Later(why) => Fault::Later(format!("{}: {why}", url.host)),
        Fault::Never(why) => Fault::Never(format!("{}: {why}", url.host)),
    })
}

/// Which answers are worth another attempt: those of a server that is not well, or busy.
fn judge(status: StatusCode) -> Result<(), Fault> {
    let words = || format!("the answer is {status}");
    match status.as_u16() {
        200..300 => Ok(()),
        408 | 425 | 429 | 500..600 => Err(Fault::Later(words())),
        _ => Err(Fault::Never(words())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_may_take_it_later_is_asked_again() {
        let judged = |code| judge(StatusCode::from_u16(code).unwrap());
        assert_eq!(judged(204), Ok(()));
        for code in [408, 429, 500, 503] {
            assert!(matches!(judged(code), Err(Fault::Later(_))), "{code}");
        }
        for code in [302, 400, 404, 410] {
            assert!(matches!(judged(code), Err(Fault::Never(_))), "{code}");
        }
    }
}
