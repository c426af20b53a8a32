//! What a caller says of itself: stream IDs, matched by patterns or read as libsrt's access control writes them.

pub use self::pattern::{PatternError, StreamIdPattern};

mod pattern;

/// Which way the media goes (the key `m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode<'a> {
    /// `request`, and what counts without the key: the caller receives.
    #[default]
    Request,
    /// `publish`: the caller sends.
    Publish,
    /// `bidirectional`.
    Bidirectional,
    /// None of these.
    Other(&'a str),
}

/// A stream ID of the form `#!::u=USER,r=RESOURCE,m=MODE`, or `#!:{u=USER,r=RESOURCE}` (libsrt's access control
/// guidelines).
///
/// Each value goes to the next comma and stands for itself: there are no escapes, and further equals signs belong to the
/// value. In braces a value may be a block in braces of its own, which is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access<'a> {
    /// `u`: who calls; it decides which passphrase is the right one.
    pub user: Option<&'a str>,
    /// `r`: what is called for.
    pub resource: Option<&'a str>,
    /// `h`: at which host it is.
    pub host: Option<&'a str>,
    /// `s`: a session that was agreed on elsewhere.
    pub session: Option<&'a str>,
    /// `t`: `stream`, which counts without the key, `file`, `auth`, or one's own.
    pub kind: Option<&'a str>,
    /// `m`.
    pub mode: Mode<'a>,
    /// Other keys and their values, in the order in which they came.
    pub others: Vec<(&'a str, &'a str)>,
}

/// A stream ID that begins like access control, `#!`, and goes on like something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream ID begins with #! but does not go on as {0}")]
pub struct Malformed(&'static str);

const PAIRS: Malformed = Malformed("#!::KEY=VALUE,KEY=VALUE");
const BLOCK: Malformed = Malformed("#!:{KEY=VALUE,KEY=VALUE}");
const ONCE: Malformed = Malformed("#!::KEY=VALUE with each key once");

impl<'a> Access<'a> {
    /// Read a stream ID; `None`: it is a free text.
    ///
    /// # Errors
    /// It begins with `#!`, and what follows is not of the form above, or has a key twice.
    pub fn parse(stream_id: &'a str) -> Result<Option<Self>, Malformed> {
        let Some(rest) = stream_id.strip_prefix("#!") else { return Ok(None) };
        let (pairs, malformed) = if let Some(pairs) = rest.strip_prefix("::") {
            (pairs.split(',').collect(), PAIRS)
        } else if let Some(block) = rest.strip_prefix(":{") {
            (split_block(block).ok_or(BLOCK)?, BLOCK)
        } else {
            return Err(PAIRS);
        };
        let mut access = Self::default();
        let mut keys = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (key, value) = pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or(malformed)?;
            if keys.contains(&key) {
                return Err(ONCE);
            }
            keys.push(key);
            access.add(key, value);
        }
        Ok(Some(access))
    }

    fn add(&mut self, key: &'a str, value: &'a str) {
        match key {
            "u" => self.user = Some(value),
            "r" => self.resource = Some(value),
            "h" => self.host = Some(value),
            "s" => self.session = Some(value),
            "t" => self.kind = Some(value),
            "m" => {
                self.mode = match value {
                    "request" => Mode::Request,
                    "publish" => Mode::Publish,
                    "bidirectional" => Mode::Bidirectional,
                    other => Mode::Other(other),
                }
            }
            _ => self.others.push((key, value)),
        }
    }
}

/// The pairs of a block, split at its own commas. Its opening brace is gone; the closing one must be the last byte.
fn split_block(block: &str) -> Option<Vec<&str>> {
    let mut pairs = Vec::new();
    let mut start = 0;
    let mut depth = 1_usize;
    for (at, c) in block.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 || depth == 1 && c == ',' {
            pairs.push(&block[start..at]);
            start = at + 1;
        }
        if depth == 0 && start < block.len() {
            return None;
        }
    }
    if depth == 0 { Some(pairs) } else { None }
}

/// Fuzz body: read anything; what is read is all there.
#[cfg(test)]
pub(crate) fn fuzz(text: &str) {
    if let Ok(Some(access)) = Access::parse(text) {
        let known = [access.user, access.resource, access.host, access.session, access.kind];
        let others = access.others.iter().map(|(key, value)| key.len() + value.len());
        let bytes: usize = known.iter().flatten().map(|value| value.len()).chain(others).sum();
        assert!(bytes <= text.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Access<'_> {
        Access::parse(text).unwrap().expect("access control")
    }

    #[test]
    fn a_free_text_is_no_access_control() {
        for text in ["", "live/venue-a", "::u=admin", "# !::u=admin", " #!::u=admin"] {
            assert_eq!(Access::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn the_examples_of_libsrt_are_read() {
        let access = read("#!::u=admin,r=bluesbrothers1_hi");
        assert_eq!((access.user, access.resource), (Some("admin"), Some("bluesbrothers1_hi")));
        assert_eq!((access.mode, access.kind), (Mode::Request, None));
        let access = read("#!::u=johnny,t=file,m=publish,r=results.csv");
        assert_eq!((access.kind, access.mode, access.resource), (Some("file"), Mode::Publish, Some("results.csv")));
    }

    #[test]
    fn an_entitlement_is_called_for_by_user_and_resource() {
        let access = read("#!::u=affiliate-7,r=news/main,m=request");
        assert_eq!((access.user, access.resource), (Some("affiliate-7"), Some("news/main")));
        assert_eq!(access.mode, Mode::Request);
    }

    #[test]
    fn every_key_has_its_place_and_unknown_ones_are_kept() {
        let access = read("#!::h=somehost.com,s=17,m=bidirectional,acme_x=1,z=");
        assert_eq!((access.host, access.session, access.mode), (Some("somehost.com"), Some("17"), Mode::Bidirectional));
        assert_eq!(access.others, [("acme_x", "1"), ("z", "")]);
        assert_eq!(read("#!::m=steal").mode, Mode::Other("steal"));
    }

    #[test]
    fn a_value_stands_for_itself() {
        assert_eq!(read("#!::r=videos/query.php?vid=366,u=%61").resource, Some("videos/query.php?vid=366"));
        assert_eq!(read("#!::u=%61\\").user, Some("%61\\"));
        assert_eq!(read("#!::u= ä {b} ").user, Some(" ä {b} "));
    }

    #[test]
    fn a_block_may_hold_blocks() {
        let access = read("#!:{u=admin,acme={a=1,b={c=2}},r=x}");
        assert_eq!((access.user, access.resource), (Some("admin"), Some("x")));
        assert_eq!(access.others, [("acme", "{a=1,b={c=2}}")]);
    }

    #[test]
    fn what_only_begins_like_access_control_is_malformed() {
        for text in ["#!", "#!:", "#!::", "#!/bin/sh", "#!::u", "#!::=a", "#!::u=a,", "#!::,u=a", "#!::u=a,,r=b"] {
            assert!(Access::parse(text).is_err(), "{text}");
        }
        for text in ["#!:{", "#!:{}", "#!:{u=a", "#!:{u=a}}", "#!:{u={a}", "#!:{u=a}b", "#!:{u=a}{r=b}", "#!:{u=a},r=b"]
        {
            assert!(Access::parse(text).is_err(), "{text}");
        }
        assert_eq!(Access::parse("#!::u=a,r=b,u=c"), Err(ONCE), "whose passphrase would it be?");
        assert_eq!(PAIRS.to_string(), "the stream ID begins with #! but does not go on as #!::KEY=VALUE,KEY=VALUE");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}", body in "[{}=,ur#!:a]{0,20}") {
            fuzz(&text);
            fuzz(&format!("#!::{body}"));
            fuzz(&format!("#!:{{{body}"));
        }

        #[test]
        fn pairs_are_read_as_written(user in "[^,{}\\x00]{0,20}", resource in "[^,{}\\x00]{0,20}") {
            for text in [format!("#!::u={user},r={resource}"), format!("#!:{{u={user},r={resource}}}")] {
                let access = read(&text);
                prop_assert_eq!((access.user, access.resource), (Some(&user[..]), Some(&resource[..])));
            }
        }
    }
}
