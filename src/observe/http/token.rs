//! The token of `[http]` in a request.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use zeroize::Zeroizing;

use crate::config::secrets::Secret;

/// Whether a request carries the token: as a bearer's (RFC 6750, section 2.1), or as the password of any user (RFC 7617),
/// for which browsers ask.
pub(super) fn is_in(headers: &HeaderMap, token: &Secret) -> bool {
    let Some(value) = headers.get(AUTHORIZATION).map(|value| value.as_bytes()) else { return false };
    let Some(space) = value.iter().position(|byte| *byte == b' ') else { return false };
    let (scheme, credentials) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"Bearer") {
        return token.is(credentials);
    }
    if !scheme.eq_ignore_ascii_case(b"Basic") {
        return false;
    }
    let Ok(pair) = BASE64_STANDARD.decode(credentials).map(Zeroizing::new) else { return false };
    let password = pair.iter().position(|byte| *byte == b':').map(|colon| &pair[colon + 1..]);
    password.is_some_and(|password| token.is(password))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::config::secrets::Secret;

    fn is_in_value(value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        is_in(&headers, &Secret::for_test(b"0123456789abcdef"))
    }

    #[test]
    fn the_token_is_a_bearers_or_the_password_of_anybody() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for right in [
            "Bearer 0123456789abcdef",
            "bearer  0123456789abcdef ",
            &basic("noc:0123456789abcdef"),
            &basic(":0123456789abcdef"),
        ] {
            assert!(is_in_value(right), "{right}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdefg",
            "Bearer 0123456789abcdeF",
            "0123456789abcdef",
            "Digest 0123456789abcdef",
            &basic("0123456789abcdef"),
            &basic("0123456789abcdef:"),
            &basic("noc:x:0123456789abcdef"),
            "Basic 0123456789abcdef",
        ] {
            assert!(!is_in_value(wrong), "{wrong}");
        }
        assert!(!is_in(&HeaderMap::new(), &Secret::for_test(b"0123456789abcdef")));
    }
}
