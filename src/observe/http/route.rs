//! From a request line to what is asked: pure.

use std::time::{Duration, SystemTime};

use hyper::Method;

use super::events::Following;
use super::page::{self, File};
use super::until;
use crate::config::value::FlowName;
use crate::supervisor::control::Command;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Anywhere.
    Read(Document),
    /// On the control socket, for readers.
    Plan,
    /// The same: good versions of flows.
    Kept(Kept),
    /// On the control socket, for operators.
    Act(Command),
}

/// Good versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// Of all flows.
    All,
    /// Of one.
    Of(FlowName),
    /// The text of one.
    One(FlowName, u64),
}

/// What may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    Health,
    Ready,
    Metrics,
    Status,
    Flows,
    Flow(String),
    /// Of a flow, so far back.
    History(String, Duration),
    /// Of a flow.
    Thumbnail(String),
    Overview,
    /// The overview again and again.
    Live,
    Page(&'static File),
    Events(Following),
}

/// The methods that a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// GET and HEAD.
    Read,
    /// POST.
    Act,
}

/// Why a request asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unroutable {
    /// No such path, or no such thing; in words.
    NotFound(String),
    /// The path takes only these methods.
    Method(Allowed),
    /// A query parameter is wrong; in words.
    Query(String),
}

/// How far back a history goes that says nothing of it.
const HISTORY: Duration = Duration::from_secs(600);

/// What `method path?query` asks for.
pub(super) fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Asked, Unroutable> {
    let no_path = || Unroutable::NotFound(format!("no such path: {path}"));
    let segments: Vec<String> =
        path.strip_prefix('/').and_then(|p| p.split('/').map(decode).collect()).ok_or_else(no_path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let Some(asked) = reading(&segments) {
        let reads = method == Method::GET || method == Method::HEAD;
        return if reads { with_query(asked, query) } else { Err(Unroutable::Method(Allowed::Read)) };
    }
    if !acts(&segments) {
        return Err(no_path());
    }
    if method != Method::POST {
        return Err(Unroutable::Method(Allowed::Act));
    }
    acting(&segments, &Query::parse(query)?)
}

fn reading(segments: &[&str]) -> Option<Asked> {
    let document = match segments {
        ["healthz"] => Document::Health,
        ["readyz"] => Document::Ready,
        ["metrics"] => Document::Metrics,
        ["v1", "status"] => Document::Status,
        ["v1", "flows"] => Document::Flows,
        ["v1", "flows", name] => Document::Flow((*name).to_owned()),
        ["v1", "flows", name, "history"] => Document::History((*name).to_owned(), HISTORY),
        ["v1", "flows", name, "thumbnail"] => Document::Thumbnail((*name).to_owned()),
        ["v1", "overview"] => Document::Overview,
        ["v1", "overview", "live"] => Document::Live,
        [""] => Document::Page(page::file("")?),
        ["dashboard", name] if !name.is_empty() => Document::Page(page::file(name)?),
        ["v1", "events"] => Document::Events(Following { follow: true, replay: false }),
        ["v1", "plan"] => return Some(Asked::Plan),
        ["v1", "versions"] => return Some(Asked::Kept(Kept::All)),
        ["v1", "flows", name, "versions"] => return Some(Asked::Kept(Kept::Of(name.parse().ok()?))),
        ["v1", "flows", name, "versions", number] => {
            return Some(Asked::Kept(Kept::One(name.parse().ok()?, number.parse().ok()?)));
        }
        _ => return None,
    };
    Some(Asked::Read(document))
}

/// The parameters of `/v1/events`.
fn following(query: Option<&str>) -> Result<Following, Unroutable> {
    let mut following = Following { follow: true, replay: false };
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let to = match key {
            "follow" => &mut following.follow,
            "replay" => &mut following.replay,
            _ => return Err(Unroutable::Query(format!("unknown parameter '{key}'"))),
        };
        *to = value.parse().map_err(|_| Unroutable::Query(format!("{key} is true or false")))?;
    }
    Ok(following)
}

/// How far back a history goes.
fn since(query: Option<&str>) -> Result<Duration, Unroutable> {
    let mut since = HISTORY;
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let Some(text) = pair.strip_prefix("since=") else {
            return Err(Unroutable::Query(format!("unknown parameter '{pair}'; there is since")));
        };
        let time = decode(text).and_then(|text| humantime::parse_duration(&text).ok()).filter(|time| !time.is_zero());
        since = time.ok_or_else(|| Unroutable::Query("since is a duration such as 10m".to_owned()))?;
    }
    Ok(since)
}

/// With what the parameters say. Other documents take none, and mind none.
fn with_query(asked: Asked, query: Option<&str>) -> Result<Asked, Unroutable> {
    Ok(Asked::Read(match asked {
        Asked::Read(Document::Events(_)) => Document::Events(following(query)?),
        Asked::Read(Document::History(name, _)) => Document::History(name, since(query)?),
        asked => return Ok(asked),
    }))
}

/// Whether there is such an acting path at all, whatever the names in it.
fn acts(segments: &[&str]) -> bool {
    matches!(
        segments,
        ["v1", "reload" | "freeze" | "thaw"]
            | ["v1", "flows", _, "start" | "stop" | "restart" | "switch" | "freeze" | "thaw"]
            | ["v1", "flows", _, "switch" | "disconnect", _]
            | ["v1", "flows", _, "outputs", _, "enable" | "disable" | "restart"]
            | ["v1", "flows", _, "sources", _, "restart"]
    ) || (cfg!(debug_assertions) && matches!(segments, ["v1", "flows", _, "panic"]))
}

fn acting(segments: &[&str], query: &Query) -> Result<Asked, Unroutable> {
    let flow =
        |name: &str| name.parse::<FlowName>().map_err(|_| Unroutable::NotFound(format!("there is no flow '{name}'")));
    let no_path = || Unroutable::NotFound("no such path".to_owned());
    let (clear, until) = (query.clear, query.until);
    let command = match segments {
        ["v1", "reload"] => Command::Reload,
        ["v1", "freeze"] => Command::Freeze(None, until),
        ["v1", "thaw"] => Command::Thaw(None),
        ["v1", "flows", name, verb] => {
            let name = flow(name)?;
            match *verb {
                "start" | "stop" if clear => Command::ClearFlow(name),
                "start" => Command::Start(name),
                "stop" => Command::Stop(name),
                "restart" => Command::Restart(name),
                "switch" if clear => Command::ClearSwitch(name),
                "switch" => {
                    return Err(Unroutable::Query("name a source (switch/SOURCE), or give clear=true".to_owned()));
                }
                "freeze" => Command::Freeze(Some(name), until),
                "thaw" => Command::Thaw(Some(name)),
                "panic" if cfg!(debug_assertions) => Command::Panic(name),
                _ => return Err(no_path()),
            }
        }
        ["v1", "flows", name, "switch", source] => Command::Switch(flow(name)?, (*source).to_owned()),
        ["v1", "flows", name, "disconnect", peer] => Command::Disconnect(flow(name)?, (*peer).to_owned()),
        ["v1", "flows", name, "outputs", output, verb] => {
            let (name, output) = (flow(name)?, (*output).to_owned());
            match *verb {
                "restart" => Command::RestartOutput(name, output),
                _ if clear => Command::ClearOutput(name, output),
                "enable" => Command::Enable(name, output),
                _ => Command::Disable(name, output),
            }
        }
        ["v1", "flows", name, _, source, _] => Command::RestartSource(flow(name)?, (*source).to_owned()),
        _ => return Err(no_path()),
    };
    let takes_clear = match segments {
        ["v1", "flows", _, "switch" | "disconnect", _] => false,
        [.., verb] => matches!(*verb, "start" | "stop" | "enable" | "disable" | "switch"),
        [] => false,
    };
    let takes_until = matches!(command, Command::Freeze(..));
    if (clear && !takes_clear) || (until.is_some() && !takes_until) {
        return Err(Unroutable::Query("this route takes no such parameter".to_owned()));
    }
    Ok(Asked::Act(command))
}

/// The parameters of acting routes. One that is not known is refused: a misspelt `until` must not freeze for ever.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    clear: bool,
    until: Option<SystemTime>,
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Unroutable> {
        let mut parsed = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| Unroutable::Query(format!("'{pair}' is not UTF-8")))?;
            match (key, value.as_str()) {
                ("clear", "true") => parsed.clear = true,
                ("clear", "false") => parsed.clear = false,
                ("clear", _) => return Err(Unroutable::Query("clear is true or false".to_owned())),
                ("until", text) => {
                    let until = until::parse(text, SystemTime::now());
                    parsed.until = Some(until.map_err(|e| Unroutable::Query(e.to_string()))?);
                }
                _ => return Err(Unroutable::Query(format!("unknown parameter '{key}'"))),
            }
        }
        Ok(parsed)
    }
}

/// Percent-decodes (RFC 3986, section 2.1); `None`: not UTF-8, or a broken escape.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes a path segment or a query value: everything but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests;
