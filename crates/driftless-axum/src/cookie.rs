//! The cookies that carry tokens: their names, what a request brings, and what a response sets.

use std::fmt::Write;
use std::time::Duration;

use driftless::Token;
use http::{HeaderMap, HeaderValue, header};

/// The most tokens of one cookie: one for each node whose writes may not be everywhere yet. The oldest are dropped.
pub(crate) const MOST_TOKENS: usize = 4;

/// Returns the name of the cookie for a cache. Bytes that a cookie's name may not have, and `_`, become `_` and two
/// hexadecimal digits, so that two caches never share a cookie.
pub(crate) fn name_for(cache: &str) -> String {
    let mut name = "driftless-".to_owned();
    for byte in cache.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => name.push(char::from(byte)),
            _ => drop(write!(name, "_{byte:02x}")), // a `String` accepts every text
        }
    }
    name
}

/// Returns the tokens of a cookie that are not older than `oldest`, in nanoseconds since the UNIX epoch. A part that is
/// no token is ignored: a client may send any text.
pub(crate) fn tokens(headers: &HeaderMap, name: &str, oldest: u64) -> Vec<Token> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let values = pairs.filter(|(found, _)| *found == name).flat_map(|(_, value)| value.split('.'));
    let tokens = values.take(MOST_TOKENS).filter_map(|text| text.parse().ok());
    tokens.filter(|token: &Token| token.time() >= oldest).collect()
}

/// Returns the tokens after a write: the new one, then those of other replicas, newest first.
pub(crate) fn with(new: Token, before: &[Token]) -> Vec<Token> {
    let mut others: Vec<_> = before.iter().filter(|token| !token.is_of_same_replica(&new)).copied().collect();
    others.sort_by_key(|token| std::cmp::Reverse(token.time()));
    std::iter::once(new).chain(others).take(MOST_TOKENS).collect()
}

/// Returns the header that sets a cookie. `None` if the name is not valid in a header.
pub(crate) fn set(name: &str, tokens: &[Token], max_age: Duration, secure: bool) -> Option<HeaderValue> {
    let tokens: Vec<_> = tokens.iter().map(Token::to_string).collect();
    let (value, seconds) = (tokens.join("."), max_age.as_secs().max(1));
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a token of a replica that is known by a letter. The time is the first characters.
    fn token(time: char, replica: char) -> Token {
        format!("A{time}AAAAAAAAAAAAAAAAAA{replica}A").parse().unwrap()
    }

    #[test]
    fn no_two_caches_share_a_cookie() {
        assert_eq!(name_for("prices"), "driftless-prices");
        assert_eq!(
            (name_for("a b"), name_for("a_b"), name_for("a_20b")),
            ("driftless-a_20b".into(), "driftless-a_5fb".into(), "driftless-a_5f20b".into())
        );
        assert_eq!(name_for("ä;="), "driftless-_c3_a4_3b_3d");
    }

    #[test]
    fn what_a_client_sends_is_read_and_the_rest_ignored() {
        let mut headers = HeaderMap::new();
        let (first, second) = (token('B', 'x'), token('C', 'y'));
        headers.append(header::COOKIE, format!("id=1; t={first}.{second}; tt={first}").parse().unwrap());
        headers.append(header::COOKIE, HeaderValue::from_bytes(b"t=\xff").unwrap());
        headers.append(header::COOKIE, HeaderValue::from_static("t=nonsense; t; =; t="));
        assert_eq!(tokens(&headers, "t", 0), [first, second]);
        assert_eq!(tokens(&headers, "t", second.time()), [second], "the first is too old");
        assert!(tokens(&headers, "absent", 0).is_empty());
        let many = vec![first.to_string(); 1_000].join(".");
        headers.insert(header::COOKIE, format!("t={many}").parse().unwrap());
        assert_eq!(tokens(&headers, "t", 0).len(), MOST_TOKENS);
    }

    #[test]
    fn a_new_token_replaces_that_of_its_replica_and_the_oldest_goes() {
        let before = [token('B', 'x'), token('D', 'y'), token('C', 'z'), token('E', 'w')];
        let new = token('F', 'x');
        assert_eq!(with(new, &before), [new, token('E', 'w'), token('D', 'y'), token('C', 'z')]);
        let fifth = token('G', 'v');
        assert_eq!(with(fifth, &before), [fifth, token('E', 'w'), token('D', 'y'), token('C', 'z')]);
        let header = set("t", &[new, fifth], Duration::from_secs(60), true).unwrap();
        assert_eq!(header, format!("t={new}.{fifth}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"));
    }
}
