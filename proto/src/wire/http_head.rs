//! What matters of the head of an HTTP request: the host that was asked for, a token;
//! and the little parser that a small page needs. Pure. Source: RFC 9110 and 9112,
//! RFC 6265 for cookies.

use core::net::IpAddr;

/// The cookie that may hold a token.
const COOKIE: &str = "hg_token";

/// What the fields of a request say about who asks, and for whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    host: Option<&'a str>,
    authorization: Option<&'a str>,
    cookie: Option<&'a str>,
}

/// Method and path (without the query) of the request whose head is `bytes`; `None` if
/// that is no request of HTTP/1.
pub fn request_line(bytes: &[u8]) -> Option<(&str, &str)> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let line = str::from_utf8(line).ok()?.trim_end();
    let (method, rest) = line.split_once(' ')?;
    let (target, version) = rest.split_once(' ')?;
    let path = target.split('?').next()?;
    (version.starts_with("HTTP/1.") && path.starts_with('/')).then_some((method, path))
}

/// Names and values of the fields of the request whose head is `bytes`.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
    })
}

impl<'a> Head<'a> {
    /// What `fields` say. One that is there twice, or is no text, counts as odd: no
    /// token, and a host of no name.
    pub fn of(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut head = Head {
            host: None,
            authorization: None,
            cookie: None,
        };
        for (name, value) in fields {
            let field = match name {
                name if name.eq_ignore_ascii_case("host") => &mut head.host,
                name if name.eq_ignore_ascii_case("authorization") => &mut head.authorization,
                name if name.eq_ignore_ascii_case("cookie") => &mut head.cookie,
                _ => continue,
            };
            *field = match field {
                None => Some(str::from_utf8(value).unwrap_or_default().trim()),
                Some(_) => Some(""),
            };
        }
        head
    }

    /// Whether this machine was asked for as such, and not by a name that somebody
    /// may have made to lead here (DNS rebinding). Without a host it was no browser.
    pub fn is_local(&self) -> bool {
        let Some(host) = self.host else {
            return true;
        };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    }

    /// The token that is shown in a field of its own; empty: none.
    pub fn bearer(&self) -> &'a str {
        let scheme = self.authorization.and_then(|value| value.split_once(' '));
        let bearer = scheme.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        bearer.map_or("", |(_, token)| token.trim())
    }

    /// The token that is shown, there or in a cookie; empty: none.
    pub fn token(&self) -> &'a str {
        let cookie = || {
            let mut pairs = self
                .cookie?
                .split(';')
                .filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(name, value)| (name.trim() == COOKIE).then_some(value.trim()))
        };
        match self.bearer() {
            "" => cookie().unwrap_or_default(),
            bearer => bearer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> String {
        format!("GET / HTTP/1.1\r\n{fields}\r\n")
    }

    #[test]
    fn tokens_are_in_a_field_or_a_cookie() {
        for (fields, token) in [
            ("", ""),
            ("Authorization: Bearer abc\r\n", "abc"),
            ("authorization:bearer abc\r\n", "abc"),
            ("Authorization: Basic abc\r\n", ""),
            ("Cookie: a=b; hg_token=abc; c=d\r\n", "abc"),
            ("Cookie: xhg_token=abc\r\n", ""),
            ("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", ""),
        ] {
            assert_eq!(
                Head::of(super::fields(head(fields).as_bytes())).token(),
                token,
                "{fields}"
            );
        }
    }

    #[test]
    fn names_that_lead_here_are_not_local() {
        for (fields, local) in [
            ("", true),
            ("Host: 127.0.0.1:8080\r\n", true),
            ("Host: [::1]:8080\r\n", true),
            ("host: LocalHost\r\n", true),
            ("Host: evil.example:8080\r\n", false),
            ("Host: 127.0.0.1.evil.example\r\n", false),
            ("Host: evil.example\r\nHost: evil.example\r\n", false),
        ] {
            assert_eq!(
                Head::of(super::fields(head(fields).as_bytes())).is_local(),
                local,
                "{fields}"
            );
        }
    }

    #[test]
    fn a_field_that_is_no_text_names_nobody() {
        let odd = [("Host", &b"127.0.0.1\xff"[..])];
        assert!(!Head::of(odd).is_local());
    }

    #[test]
    fn a_request_begins_with_a_method_and_a_path() {
        for (line, parsed) in [
            ("GET / HTTP/1.1\r\n\r\n", Some(("GET", "/"))),
            ("HEAD /a?b=c HTTP/1.0\r\n\r\n", Some(("HEAD", "/a"))),
            ("GET /\r\n\r\n", None),
            ("GET / HTTP/2.0\r\n\r\n", None),
            ("GET http://evil.example/ HTTP/1.1\r\n\r\n", None),
            ("\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(request_line(line.as_bytes()), parsed, "{line:?}");
        }
    }
}
