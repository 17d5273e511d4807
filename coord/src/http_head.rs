//! What matters of the head of an HTTP request: its first line, the host that was
//! asked for, a token. Pure. Source: RFC 9110 and 9112, RFC 6265 for cookies.

use core::net::IpAddr;

/// The cookie that may hold a token.
const COOKIE: &str = "hg_token";

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Without its end.
    pub request_line: &'a [u8],
    host: Option<&'a str>,
    authorization: Option<&'a str>,
    cookie: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// What is in `bytes`, which end with an empty line. A field that is there twice
    /// counts as odd: no token, and a host of no name.
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let request_line = lines.next().unwrap_or_default().trim_ascii_end();
        let mut head = Head {
            request_line,
            host: None,
            authorization: None,
            cookie: None,
        };
        let mut seen = [false; 3];
        for line in lines {
            let Some((name, value)) = std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.split_once(':'))
            else {
                continue;
            };
            let (at, field) = match name.to_ascii_lowercase().as_str() {
                "host" => (0, &mut head.host),
                "authorization" => (1, &mut head.authorization),
                "cookie" => (2, &mut head.cookie),
                _ => continue,
            };
            *field = match (seen[at], at) {
                (false, _) => Some(value.trim()),
                (true, 0) => Some(""),
                (true, _) => None,
            };
            seen[at] = true;
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

    /// The token that is shown; empty: none.
    pub fn token(&self) -> &'a str {
        let bearer = self
            .authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let cookie = || {
            let mut pairs = self
                .cookie?
                .split(';')
                .filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(name, value)| (name.trim() == COOKIE).then_some(value.trim()))
        };
        bearer.or_else(cookie).unwrap_or_default()
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
            assert_eq!(Head::of(head(fields).as_bytes()).token(), token, "{fields}");
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
                Head::of(head(fields).as_bytes()).is_local(),
                local,
                "{fields}"
            );
        }
    }

    #[test]
    fn the_first_line_is_kept_as_it_came() {
        let text = head("Host: x\r\n");
        assert_eq!(Head::of(text.as_bytes()).request_line, b"GET / HTTP/1.1");
    }
}
