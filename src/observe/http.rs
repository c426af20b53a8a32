//! The routes, on the control socket and on `[http] listen`.
//!
//! Both listeners serve the same documents; what acts is served on the control socket only, to those whom `[control]`
//! lets in by the credentials of their process. Strangers are bounded: in connections, in header size, in the time
//! they may take to ask and to read the answer.

mod access;
mod answer;
mod events;
mod feed;
mod page;
mod route;
mod stall;
mod tls;
mod token;
mod until;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serializer;
use serde::ser::SerializeSeq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

pub use access::{Peer, Readers, Rules, may_act, may_read};
pub use route::encode;
pub use tls::{Tls, TlsError, server_config};
pub use until::{UntilError, parse as parse_until};

use self::access::RulesCache;
use self::answer::Answer;
use self::events::Events;
use self::feed::Feed;
use self::route::{Asked, Document, Kept, Unroutable, route};
use self::stall::Stall;
use super::event::{Event, emit};
use super::metrics;
use super::status::{FlowDoc, HistoryDoc, OverviewDoc, StatusDoc, VersionDoc, VersionTextDoc, VersionsDoc};
use crate::config::plan::{ControlPlan, TagLabel};
use crate::config::secrets::KeyFile;
use crate::config::value::FlowName;
use crate::supervisor::control::{Actor, Command, Handle};

/// What the server shows: the supervisor's state, as documents.
pub trait View {
    /// Whether the first apply is done.
    fn ready(&self) -> bool;
    /// `/v1/status`.
    fn status(&self) -> StatusDoc;
    /// `/v1/flows`, in the order of their names. One at a time: a thousand documents at once are megabytes.
    fn flows(&self, each: &mut dyn FnMut(&FlowDoc));
    /// `/v1/flows/NAME`; `None`: no such flow.
    fn flow(&self, name: &str) -> Option<FlowDoc>;
    /// `/v1/flows/NAME/history`, so far back; `None`: no such flow.
    fn history(&self, name: &str, since: Duration) -> Option<HistoryDoc>;
    /// `/v1/flows/NAME/thumbnail`, a JPEG, or why there is none; `None`: no such flow.
    fn thumbnail(&self, name: &str) -> Option<Result<Bytes, String>>;
    /// `/v1/overview`; `about`: with what changes rarely.
    fn overview(&self, about: bool) -> OverviewDoc;
    /// What tells that an overview is another.
    fn pulse(&self) -> Pulse;
    /// `[http] tag-labels` in force.
    fn tag_labels(&self) -> Vec<TagLabel>;
    /// `[control]` in force.
    fn control(&self) -> ControlPlan;
    /// The groups that a flow lets act on it besides.
    fn operators(&self, flow: &FlowName) -> Vec<String>;
    /// `[http] token-file` in force; `None`: anybody reads.
    fn token(&self) -> Option<KeyFile>;
    /// `/v1/versions`: the newest of each flow.
    fn versions(&self) -> VersionsDoc;
    /// `/v1/flows/NAME/versions`, the newest first.
    fn versions_of(&self, flow: &FlowName) -> Vec<VersionDoc>;
    /// `/v1/flows/NAME/versions/NUMBER`; `None`: there is none, or no longer.
    fn version(&self, flow: &FlowName, number: u64) -> Option<VersionTextDoc>;
    /// Put it into the audit trail that somebody was not let act.
    fn audit_refused(&self, actor: Actor, command: &Command);
    /// A request without it was refused.
    fn count_refused(&self);
}

/// What an overview says was so: another one says something else. Figures move all the time and do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Counts the looks that found other conditions than the one before.
    pub turns: u64,
    /// Counts the reloads that changed something.
    pub generation: u64,
}

/// Serves the control socket: all routes, by the peer's rights. Runs until dropped, and its connections with it.
/// Must be polled within a [`tokio::task::LocalSet`].
pub async fn serve_unix(listener: UnixListener, view: Rc<dyn View>, handle: Handle) {
    let server = Rc::new(Server::new(view, Some(handle)));
    accept_all(server, async || {
        let (stream, _) = listener.accept().await?;
        let peer = Peer::of(&stream)?;
        Ok((stream, Origin::Unix(peer)))
    })
    .await;
}

/// Serves an address of `[http] listen`: the routes that read, to those who have the token. Runs until dropped, and its
/// connections with it. Must be polled within a [`tokio::task::LocalSet`].
pub async fn serve_tcp(listener: TcpListener, view: Rc<dyn View>, tls: Tls) {
    let server = Rc::new(Server { tls, ..Server::new(view, None) });
    accept_all(server, async || {
        let (stream, address) = listener.accept().await?;
        Ok((stream, Origin::Tcp(address.ip())))
    })
    .await;
}

/// Connections of one listener at a time.
const MOST: usize = 64;
/// Of those, connections of one user, or from one address: nobody locks the others out alone.
const MOST_OF_ONE: usize = 16;
/// Connections of one listener that follow events, at a time; and of those, of one user or from one address.
const MOST_FOLLOWERS: usize = 64;
const MOST_FOLLOWERS_OF_ONE: usize = 12;
/// For a whole request head; also how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For the peer to take more of an answer.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Of a request head, in bytes.
const HEAD_SIZE: usize = 16 * 1024;
/// After an accept that failed, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// [`super::status::FlowsDoc`], each flow written as it is made.
#[derive(serde::Serialize)]
struct Flows<'a> {
    #[serde(serialize_with = "one_by_one")]
    flows: &'a dyn View,
}

fn one_by_one<S: Serializer>(view: &&dyn View, to: S) -> Result<S::Ok, S::Error> {
    let (mut list, mut written) = (to.serialize_seq(None)?, Ok(()));
    view.flows(&mut |flow| {
        if written.is_ok() {
            written = list.serialize_element(flow);
        }
    });
    written?;
    list.end()
}

/// What a party reads that has as many connections as it may.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n\
    {\"error\":\"too many connections of yours\"}\n";

/// Where a connection comes from.
#[derive(Debug, Clone)]
enum Origin {
    Unix(Peer),
    Tcp(IpAddr),
}

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    User(u32),
    Address(IpAddr),
}

impl Origin {
    fn party(&self) -> Party {
        match self {
            Self::Unix(peer) => Party::User(peer.uid),
            Self::Tcp(ip) => Party::Address(ip.to_canonical()),
        }
    }
}

struct Server {
    view: Rc<dyn View>,
    /// `None`: nothing acts here.
    handle: Option<Handle>,
    rules: RulesCache,
    tls: Tls,
    feed: Feed,
    parties: Parties,
    followers: Parties,
    head_time: Duration,
    write_time: Duration,
}

/// How many connections each party has.
type Parties = Rc<RefCell<HashMap<Party, usize>>>;

/// A connection's place among those of its party.
struct Place {
    parties: Parties,
    party: Party,
}

impl Place {
    /// `None`: the party has as many as it may.
    fn among(parties: &Parties, party: Party, most_of_one: usize) -> Option<Self> {
        let mut counts = parties.borrow_mut();
        let n = counts.entry(party).or_default();
        if *n >= most_of_one {
            return None;
        }
        *n += 1;
        Some(Self { parties: parties.clone(), party })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut parties = self.parties.borrow_mut();
        if let Some(n) = parties.get_mut(&self.party) {
            *n -= 1;
            if *n == 0 {
                parties.remove(&self.party);
            }
        }
    }
}

/// A connection that was accepted.
trait Accepted: AsyncWrite + Unpin + 'static {
    /// Answer its requests until it ends.
    async fn serve(self, server: Rc<Server>, origin: Origin, place: Place);
}

impl Accepted for UnixStream {
    async fn serve(self, server: Rc<Server>, origin: Origin, place: Place) {
        server.connection(self, origin, place).await;
    }
}

/// The type of a TLS record that begins a connection (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What who speaks plain HTTP reads where TLS is spoken.
const TLS_ONLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n\
    {\"error\":\"this port speaks TLS: write https:\"}\n";

impl Accepted for TcpStream {
    async fn serve(mut self, server: Rc<Server>, origin: Origin, place: Place) {
        let Some(acceptor) = server.tls.acceptor() else { return server.connection(self, origin, place).await };
        let handshake = async {
            let mut head = [0; 1024];
            if self.peek(&mut head).await? > 0 && head[0] != HANDSHAKE {
                // What is not read would break the connection before the answer is.
                let _ = self.read(&mut head).await?;
                self.write_all(TLS_ONLY).await?;
                return Ok(None);
            }
            acceptor.accept(self).await.map(Some)
        };
        // Who can't is gone.
        if let Ok(Ok::<_, io::Error>(Some(stream))) = tokio::time::timeout(server.head_time, handshake).await {
            server.connection(stream, origin, place).await;
        }
    }
}

async fn accept_all<S: Accepted>(server: Rc<Server>, mut accept: impl AsyncFnMut() -> io::Result<(S, Origin)>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(), if connections.len() < MOST => match accepted {
                Ok((mut stream, origin)) => match Place::among(&server.parties, origin.party(), MOST_OF_ONE) {
                    Some(place) => { connections.spawn_local(stream.serve(server.clone(), origin, place)); }
                    None if server.tls.acceptor().is_some() => {}
                    None => { let _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(BUSY)).await; }
                },
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Server {
    fn new(view: Rc<dyn View>, handle: Option<Handle>) -> Self {
        Self {
            feed: Feed::new(view.clone()),
            view,
            handle,
            rules: RulesCache::default(),
            tls: Tls::default(),
            parties: Parties::default(),
            followers: Parties::default(),
            head_time: HEAD_TIME,
            write_time: WRITE_TIME,
        }
    }

    /// For one who follows events; `None`: there are as many as may be.
    fn follower(&self, party: Party) -> Option<Place> {
        let all: usize = self.followers.borrow().values().sum();
        if all < MOST_FOLLOWERS { Place::among(&self.followers, party, MOST_FOLLOWERS_OF_ONE) } else { None }
    }

    async fn connection<S>(self: Rc<Self>, stream: S, origin: Origin, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let (server, origin) = (self.clone(), origin.clone());
            async move { Ok::<_, std::convert::Infallible>(server.respond(&origin, &request).await.into_response()) }
        });
        let io = TokioIo::new(Stall::new(stream, self.write_time));
        // What goes wrong here is the peer's doing, and it has been answered where that was possible.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_time)
            .max_header_size(HEAD_SIZE)
            .serve_connection(io, service)
            .await;
        drop(place);
    }

    async fn respond(&self, origin: &Origin, request: &Request<Incoming>) -> Answer {
        let uri = request.uri();
        let asked = match route(request.method(), uri.path(), uri.query()) {
            Ok(asked) => asked,
            Err(Unroutable::NotFound(what)) => return Answer::error(404, what),
            Err(Unroutable::Method(allow)) => return Answer::method(allow),
            Err(Unroutable::Query(what)) => return Answer::error(400, what),
        };
        match origin {
            Origin::Tcp(address) => match asked {
                Asked::Read(document) if !self.admits(&document, *address, request.headers()) => Answer::unauthorized(),
                Asked::Read(document) => self.document(&document, origin, request.headers()),
                Asked::Plan | Asked::Kept(_) | Asked::Act(_) => {
                    Answer::error(403, "only on the control socket".to_owned())
                }
            },
            Origin::Unix(peer) => self.for_peer(peer, asked, origin, request.headers()).await,
        }
    }

    async fn for_peer(&self, peer: &Peer, asked: Asked, origin: &Origin, headers: &HeaderMap) -> Answer {
        let control = self.view.control();
        let rules = self.rules.rules(control.clone()).await;
        if let Asked::Act(command) = asked {
            if may_act(peer, &rules) {
                return self.ask(peer, command).await;
            }
            let groups = command.flow().map(|flow| self.view.operators(flow)).unwrap_or_default();
            if access::is_in_one_of(peer, groups.clone()).await {
                return self.ask(peer, command).await;
            }
            // Who has to do with a flow is for readers.
            let groups = if may_read(peer, &rules) { groups } else { Vec::new() };
            self.view.audit_refused(self.actor(peer).await, &command);
            return Answer::error(403, access::acting_takes(peer, &control, &rules, &groups));
        }
        match asked {
            _ if !may_read(peer, &rules) => Answer::error(403, access::reading_takes(peer, &control, &rules)),
            Asked::Read(document) => self.document(&document, origin, headers),
            Asked::Kept(kept) => self.kept(&kept),
            Asked::Plan => self.ask(peer, Command::Plan).await,
            Asked::Act(command) => self.ask(peer, command).await,
        }
    }

    /// Whether a document is for who sends these headers. Whether the daemon lives is for everybody.
    fn admits(&self, document: &Document, address: IpAddr, headers: &HeaderMap) -> bool {
        let Some(token) = self.view.token() else { return true };
        if matches!(document, Document::Health | Document::Ready) || token::is_in(headers, token.secret()) {
            return true;
        }
        self.view.count_refused();
        // A browser asks without one before it asks its user.
        if headers.contains_key(AUTHORIZATION) {
            emit(Event::HttpTokenWrong { address: address.to_canonical() });
        }
        false
    }

    fn kept(&self, kept: &Kept) -> Answer {
        match kept {
            Kept::All => Answer::json(&self.view.versions()),
            Kept::Of(flow) => match self.view.versions_of(flow) {
                none if none.is_empty() => no_flow(flow.as_str()),
                versions => Answer::json(&VersionsDoc { flows: [(flow.to_string(), versions)].into() }),
            },
            Kept::One(flow, number) => match self.view.version(flow, *number) {
                Some(version) => Answer::json(&version),
                None => Answer::error(404, format!("there is no version {number} of flow '{flow}'")),
            },
        }
    }

    async fn actor(&self, peer: &Peer) -> Actor {
        let peer = peer.clone();
        let unnamed = peer.unnamed_actor();
        tokio::task::spawn_blocking(move || peer.actor()).await.unwrap_or(unnamed)
    }

    async fn ask(&self, peer: &Peer, command: Command) -> Answer {
        let Some(handle) = &self.handle else { return Answer::error(403, "only on the control socket".to_owned()) };
        match handle.ask(command, self.actor(peer).await).await {
            Ok(outcome) => Answer::json(&outcome),
            Err(refusal) => Answer::refusal(&refusal),
        }
    }

    fn document(&self, document: &Document, origin: &Origin, headers: &HeaderMap) -> Answer {
        match document {
            Document::Health => Answer::text(200, "ok\n"),
            Document::Ready if self.view.ready() => Answer::text(200, "ready\n"),
            Document::Ready => Answer::text(503, "starting: the configuration is not applied yet\n"),
            Document::Metrics => {
                let format = answer::metrics_format(headers);
                let mut scrape = metrics::Scrape::new(format, self.view.tag_labels());
                self.view.flows(&mut |flow| scrape.add(flow));
                Answer::metrics(format, scrape.finish(&self.view.status()))
            }
            Document::Status => Answer::json(&self.view.status()),
            Document::Flows => Answer::json(&Flows { flows: &*self.view }),
            Document::Flow(name) => match self.view.flow(name) {
                Some(flow) => Answer::json(&flow),
                None => no_flow(name),
            },
            Document::History(name, since) => match self.view.history(name, *since) {
                Some(history) => Answer::json(&history),
                None => no_flow(name),
            },
            Document::Thumbnail(name) => match self.view.thumbnail(name) {
                Some(Ok(picture)) => Answer::jpeg(picture),
                Some(Err(why)) => Answer::error(404, why),
                None => no_flow(name),
            },
            Document::Overview => Answer::json(&self.view.overview(true)),
            Document::Live => match self.follower(origin.party()) {
                Some(place) => Answer::stream(self.feed.listen(place)),
                None => Answer::error(503, "too many follow what happens".to_owned()),
            },
            Document::Page(file) => Answer::page(file),
            Document::Events(following) => match self.follower(origin.party()) {
                Some(place) => Answer::events(Events::new(*following, headers, place)),
                None => Answer::error(503, "too many follow the events".to_owned()),
            },
        }
    }
}

fn no_flow(name: &str) -> Answer {
    Answer::error(404, format!("there is no flow '{name}'"))
}

#[cfg(test)]
mod tests;
