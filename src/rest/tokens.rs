//! Continuation tokens: where the next page of a query begins, readable by nobody else's query.
//!
//! Base64url of JSON `[query, expiry, place…]` and an HMAC-SHA256 over it; the digest of the query is in it, so that
//! the token of another query is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::model::digest::Digest;

/// How long a token is good, in seconds.
const LIFETIME: i64 = 24 * 3_600;
/// Hex digits of the digest of a query.
const DIGEST_CHARS: usize = 16;

/// Returns the token of a place in the result of a query.
pub fn token(key: &[u8], query: &str, place: &[&str], now: i64) -> String {
    let body = json!([digest(query), now + LIFETIME, place]).to_string();
    let signed = [&mac(key, body.as_bytes())[..], body.as_bytes()].concat();
    URL_SAFE_NO_PAD.encode(signed)
}

/// Returns the place of a token.
///
/// # Errors
/// It is none, was altered, is of another query, or is over; a sentence.
pub fn place(key: &[u8], query: &str, token: &str, now: i64) -> Result<Vec<String>, &'static str> {
    const NONE: &str = "the continuation token is none of this hub: begin the query anew";
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| NONE)?;
    let (signature, body) = bytes.split_at_checked(32).ok_or(NONE)?;
    let mut expected = new_mac(key);
    expected.update(body);
    expected.verify_slice(signature).map_err(|_| NONE)?;
    let body: Value = serde_json::from_slice(body).map_err(|_| NONE)?;
    if body[0].as_str() != Some(digest(query).as_str()) {
        return Err("the continuation token is of another query: begin this one anew");
    }
    if body[1].as_i64().is_none_or(|ends_at| ends_at < now) {
        return Err("the continuation token is older than a day: begin the query anew");
    }
    let place = body[2].as_array().ok_or(NONE)?;
    Ok(place.iter().filter_map(Value::as_str).map(str::to_string).collect())
}

fn digest(query: &str) -> String {
    Digest::of_bytes(query.as_bytes()).to_string()[..DIGEST_CHARS].to_string()
}

fn new_mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is one for HMAC")
}

fn mac(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = new_mac(key);
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_query_and_not_to_be_altered() {
        let made = token(b"key", "SELECT * FROM devices", &["job", "dev-1"], 100);
        let read = |key: &[u8], query: &str, token: &str, now: i64| place(key, query, token, now);
        assert_eq!(read(b"key", "SELECT * FROM devices", &made, 200), Ok(vec!["job".into(), "dev-1".into()]));
        assert!(read(b"key", "SELECT * FROM devices.jobs", &made, 200).unwrap_err().contains("another query"));
        assert!(read(b"key", "SELECT * FROM devices", &made, 100_000).unwrap_err().contains("older"));
        assert!(read(b"other", "SELECT * FROM devices", &made, 200).is_err());
        let mut altered = made.clone();
        altered.replace_range(60..61, if &made[60..61] == "A" { "B" } else { "A" });
        for token in [altered.as_str(), "", "x", "****"] {
            assert!(read(b"key", "SELECT * FROM devices", token, 200).is_err(), "{token}");
        }
    }
}
