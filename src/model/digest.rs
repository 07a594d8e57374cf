//! Digests: SHA-256 (FIPS 180-4) over canonical JSON or over bytes, shown as 64 lower-case hex digits.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of some bytes.
    pub fn of_bytes(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Returns the keyed digest of some bytes: HMAC-SHA-256 (RFC 2104).
    pub fn keyed(key: &[u8; 32], bytes: &[u8]) -> Digest {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(bytes);
        Digest(mac.finalize().into_bytes().into())
    }

    /// Returns the digest of a value's canonical JSON.
    pub fn of_json(value: &Value) -> Digest {
        Digest::of_bytes(canonical_json(value).as_bytes())
    }

    /// Returns the digest of the canonical JSON of an array.
    pub fn of_json_items<'a>(items: impl IntoIterator<Item = &'a Value>) -> Digest {
        let mut text = Vec::new();
        write_items(items, &mut text);
        Digest::of_bytes(&text)
    }

    /// As [`Digest::of_json_items`], of values that are texts already. No value is made where their keys are sorted.
    pub fn of_json_texts<'a>(items: impl IntoIterator<Item = &'a RawValue>) -> Digest {
        let mut text = vec![b'['];
        for item in items {
            if text.len() > 1 {
                text.push(b',');
            }
            push_canonical(item.get(), &mut text);
        }
        text.push(b']');
        Digest::of_bytes(&text)
    }

    /// Returns the digest of a sequence of texts; each is framed by its length, so `["ab"]` and `["a", "b"]` differ.
    pub fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Digest {
        let mut hasher = Sha256::new();
        for text in texts {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        Digest(hasher.finalize().into())
    }

    /// Returns the digest of a sequence of names, each with a digest: that of their texts, one after the other.
    pub fn of_entries<'a>(entries: impl IntoIterator<Item = (&'a str, &'a Digest)>) -> Digest {
        let mut hasher = Sha256::new();
        for (name, digest) in entries {
            let hex = digest.hex();
            for text in [name.as_bytes(), &hex] {
                hasher.update((text.len() as u64).to_be_bytes());
                hasher.update(text);
            }
        }
        Digest(hasher.finalize().into())
    }

    fn hex(&self) -> [u8; 64] {
        // Several are written for each device of a job; formatting them as numbers takes twenty times as long.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }

    /// Returns the digest that 64 hex digits spell, or `None`.
    pub fn parse(hex: &str) -> Option<Digest> {
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
        }
        Some(Digest(bytes))
    }

    /// Returns the first 16 bytes as a number, to add digests up where their order does not count.
    pub fn sum(&self) -> u128 {
        u128::from_be_bytes(self.0[..16].try_into().expect("a digest has 32 bytes"))
    }

    /// Returns the first eight bytes as a number, to seed what must be reproducible.
    pub fn seed(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("a digest has 32 bytes"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Returns JSON without white space and with the keys of every object sorted by their bytes.
///
/// Numbers are written as serde_json writes them, which is how the author wrote them but for redundant digits. So this
/// is not the scheme of RFC 8785, which writes every number as an IEEE 754 double and sorts keys by UTF-16 units: `1`
/// and `1.0` would be one, and integers beyond 2^53 would lose digits. The digests on results branches depend on it.
pub fn canonical_json(value: &Value) -> String {
    let mut text = Vec::new();
    write_canonical(value, &mut text);
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn write_canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => write_plain(value, text),
        Value::Array(items) => write_items(items, text),
        Value::Object(members) => {
            // They are, unless a feature of serde_json keeps them as they came.
            if members.keys().is_sorted() {
                return write_members(members, text);
            }
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|left, right| left.0.cmp(right.0));
            write_members(sorted, text);
        }
    }
}

fn write_members<'a>(members: impl IntoIterator<Item = (&'a String, &'a Value)>, text: &mut Vec<u8>) {
    text.push(b'{');
    for (at, (key, member)) in members.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        write_plain(key, text);
        text.push(b':');
        write_canonical(member, text);
    }
    text.push(b'}');
}

fn write_items<'a>(items: impl IntoIterator<Item = &'a Value>, text: &mut Vec<u8>) {
    text.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        write_canonical(item, text);
    }
    text.push(b']');
}

fn push_canonical(json: &str, text: &mut Vec<u8>) {
    let begin = text.len();
    if Canonical(&mut *text).deserialize(&mut serde_json::Deserializer::from_str(json)).is_ok() {
        return;
    }
    text.truncate(begin);
    match serde_json::from_str(json) {
        Ok(value) => write_canonical(&value, text),
        // It is nested too deep to be read.
        Err(_) => text.extend_from_slice(json.as_bytes()),
    }
}

/// Writes what it reads as canonical JSON, and fails where the keys of an object are not sorted.
struct Canonical<'t>(&'t mut Vec<u8>);

/// The key of an object, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with sorted keys")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        write_plain(&(), self.0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        write_plain(&value, self.0);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        write_plain(&value, self.0);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        write_plain(&value, self.0);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        write_plain(&value, self.0);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        write_plain(value, self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        let begin = self.0.len();
        loop {
            let end = self.0.len();
            if end > begin {
                self.0.push(b',');
            }
            if items.next_element_seed(Canonical(self.0))?.is_none() {
                self.0.truncate(end);
                self.0.push(b']');
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        let mut before: Option<Key<'de>> = None;
        while let Some(key) = members.next_key::<Key<'de>>()? {
            if let Some(before) = &before {
                if before.0 >= key.0 {
                    return Err(A::Error::custom("the keys are not sorted"));
                }
                self.0.push(b',');
            }
            write_plain(&key.0, self.0);
            self.0.push(b':');
            members.next_value_seed(Canonical(self.0))?;
            before = Some(key);
        }
        self.0.push(b'}');
        Ok(())
    }
}

fn write_plain(value: &(impl serde::Serialize + ?Sized), text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_does_not_count() {
        let one: Value = serde_json::from_str(r#"{"b": [1, {"d": null, "c": "x"}], "a": 1.5}"#).unwrap();
        assert_eq!(canonical_json(&one), r#"{"a":1.5,"b":[1,{"c":"x","d":null}]}"#);
        assert_eq!(Digest::parse(&Digest::of_json(&one).to_string()), Some(Digest::of_json(&one)));
        let two = Value::from("\u{e9}\"\n");
        assert_eq!(Digest::of_json_items([&one, &two]), Digest::of_json(&Value::from(vec![one, two])));
    }

    #[test]
    fn a_text_has_the_digest_of_its_value() {
        let texts = [
            "null",
            " [ ] ",
            "{}",
            "[1, -0, -0.0, 1.0, 1e3, 18446744073709551615, -9223372036854775808, 1e400]",
            r#"{"a": {"b": [true, false, null, "\u00e9\n\/"]}, "\u0061b": {}}"#,
            r#"{"b": 1, "a": [{"d": 2, "c": 3}]}"#,
            r#"{"a": 1, "a": 2}"#,
            r#"[{"z": 1}, {"y": [[], [2]]}]"#,
        ];
        for text in texts {
            let raw: &RawValue = serde_json::from_str(text.trim()).unwrap();
            let Ok(value) = serde_json::from_str::<Value>(text) else {
                assert!(text.contains("1e400"), "{text}");
                continue;
            };
            assert_eq!(Digest::of_json_texts([raw, raw]), Digest::of_json_items([&value, &value]), "{text}");
        }
        let deep = "[".repeat(500) + &"]".repeat(500);
        let deep: &RawValue = serde_json::from_str(&deep).unwrap();
        assert_eq!(Digest::of_json_texts([deep]), Digest::of_bytes(format!("[{deep}]").as_bytes()));
    }

    /// Test case 2 of RFC 4231 with its key filled up by zeros, as HMAC does itself.
    #[test]
    fn keyed_digests_are_those_of_the_rfc() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let digest = Digest::keyed(&key, b"what do ya want for nothing?");
        assert_eq!(digest.to_string(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn texts_are_framed() {
        let (one, two) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        let texts = ["a".to_string(), one.to_string(), "b".to_string(), two.to_string()];
        let entries = Digest::of_entries([("a", &one), ("b", &two)]);
        assert_eq!(entries, Digest::of_texts(texts.iter().map(String::as_str)));
        assert_ne!(Digest::of_texts(["ab"]), Digest::of_texts(["a", "b"]));
    }
}
