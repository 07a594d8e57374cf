//! The ID token of a login: its signature, and what it says (OpenID Connect Core 1.0, 3.1.3.7).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

/// Seconds that two clocks may differ by.
const LEEWAY: i64 = 60;
/// Bytes of a token.
const BYTES_MAX: usize = 64 << 10;

/// What a token has to say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    /// Seconds of Unix time.
    pub now: i64,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// No key of the set is meant: newer keys may have it.
    NoKey,
    /// A phrase.
    Wrong(&'static str),
}

/// How a token is signed.
#[derive(Clone, Copy)]
enum Algorithm {
    Rsa(&'static signature::RsaParameters),
    /// The curve, and the bytes of a coordinate.
    Elliptic(&'static str, usize, &'static signature::EcdsaVerificationAlgorithm),
    Edwards,
}

impl Algorithm {
    /// Those of a public key; `none` and those of a shared secret are no signatures of a provider.
    fn of(name: &str) -> Option<Algorithm> {
        Some(match name {
            "RS256" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            "ES256" => Algorithm::Elliptic("P-256", 32, &signature::ECDSA_P256_SHA256_FIXED),
            "ES384" => Algorithm::Elliptic("P-384", 48, &signature::ECDSA_P384_SHA384_FIXED),
            "EdDSA" => Algorithm::Edwards,
            _ => return None,
        })
    }
}

/// Returns what a token says, when a key of the set (RFC 7517) has signed it, and it is for us and for now.
///
/// # Errors
/// It is not.
pub fn claims(token: &str, keys: &Value, expected: Expected<'_>) -> Result<Map<String, Value>, Flaw> {
    let wrong = |what: &'static str| Flaw::Wrong(what);
    let no_token = || wrong("it is no signed token");
    if token.len() > BYTES_MAX {
        return Err(no_token());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(no_token)?;
    let (head, body) = signed.split_once('.').ok_or_else(no_token)?;
    let decoded = |part: &str| BASE64.decode(part).map_err(|_| no_token());
    let object = |part: &str| serde_json::from_slice::<Map<String, Value>>(&decoded(part)?).map_err(|_| no_token());
    let (head, claims, signature) = (object(head)?, object(body)?, decoded(signature)?);
    if head.contains_key("crit") {
        return Err(wrong("it has a header that has to be understood, and is not"));
    }
    let name = head.get("alg").and_then(Value::as_str).unwrap_or_default();
    let algorithm = Algorithm::of(name).ok_or(wrong("it is signed in a way that is not taken"))?;
    let id = head.get("kid").and_then(Value::as_str);
    let meant = keys["keys"].as_array().into_iter().flatten();
    let mut meant = meant.filter(|key| is_meant(key, (name, id))).peekable();
    if meant.peek().is_none() {
        return Err(Flaw::NoKey);
    }
    if !meant.any(|key| has_signed(key, algorithm, signed.as_bytes(), &signature).unwrap_or_default()) {
        return Err(wrong("its signature is not that of the provider"));
    }
    check(&claims, expected)?;
    Ok(claims)
}

fn is_meant(key: &Value, (algorithm, id): (&str, Option<&str>)) -> bool {
    let is = |member: &str, text: &str| key[member].is_null() || key[member] == text;
    is("use", "sig") && is("alg", algorithm) && id.is_none_or(|id| key["kid"] == id)
}

/// Returns whether a key has signed something; `None` when it is none of the algorithm.
fn has_signed(key: &Value, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> Option<bool> {
    let bytes = |member: &str| BASE64.decode(key[member].as_str()?).ok();
    Some(match algorithm {
        Algorithm::Rsa(parameters) if key["kty"] == "RSA" => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            // Zeros in front are not for `ring`, and some providers have them.
            let n = n.iter().position(|byte| *byte != 0).map(|at| n[at..].to_vec())?;
            RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
        }
        Algorithm::Elliptic(curve, size, algorithm) if key["kty"] == "EC" && key["crv"] == curve => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != size || y.len() != size {
                return None;
            }
            let point: Vec<u8> = [4].into_iter().chain(x).chain(y).collect();
            UnparsedPublicKey::new(algorithm, point).verify(signed, signature).is_ok()
        }
        Algorithm::Edwards if key["kty"] == "OKP" && key["crv"] == "Ed25519" => {
            UnparsedPublicKey::new(&signature::ED25519, bytes("x")?).verify(signed, signature).is_ok()
        }
        Algorithm::Rsa(_) | Algorithm::Elliptic(..) | Algorithm::Edwards => return None,
    })
}

fn check(claims: &Map<String, Value>, expected: Expected<'_>) -> Result<(), Flaw> {
    let Expected { issuer, client_id, nonce, now } = expected;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            // Whole seconds are meant; a fraction is legal.
            Some(seconds) => Ok(Some(seconds as i64)),
            None => Err(Flaw::Wrong("it has a time that is none")),
        },
    };
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let party = text("azp");
    let is_ours = audience.contains(&client_id) && (audience.len() == 1 || party.is_some());
    let (until, from, made) = (time("exp")?, time("nbf")?, time("iat")?);
    match () {
        () if text("iss") != Some(issuer) => Err(Flaw::Wrong("it is of another issuer")),
        () if !is_ours || party.is_some_and(|party| party != client_id) => Err(Flaw::Wrong("it is for another client")),
        () if until.is_none_or(|until| until <= now - LEEWAY) => Err(Flaw::Wrong("it has expired")),
        () if from.is_some_and(|from| from > now + LEEWAY) => Err(Flaw::Wrong("it is not good yet")),
        () if made.is_none_or(|made| made > now + LEEWAY) => Err(Flaw::Wrong("it was made in the future")),
        () if text("nonce") != Some(nonce) => Err(Flaw::Wrong("it is of another login")),
        () if text("sub").is_none_or(str::is_empty) => Err(Flaw::Wrong("it says of nobody")),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    struct Provider {
        pair: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Provider {
        fn new() -> Provider {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
            Provider { pair, random }
        }

        fn keys(&self, id: &str) -> Value {
            let point = self.pair.public_key().as_ref();
            let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
            json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": x, "y": y}]})
        }

        fn token(&self, head: &Value, claims: &Value) -> String {
            let signed = format!("{}.{}", BASE64.encode(head.to_string()), BASE64.encode(claims.to_string()));
            let signature = self.pair.sign(&self.random, signed.as_bytes()).unwrap();
            format!("{signed}.{}", BASE64.encode(signature.as_ref()))
        }
    }

    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://login.example", client_id: "fleet", nonce: "n-1", now: 1_800_000_000 };

    fn good() -> Value {
        json!({
            "iss": "https://login.example", "sub": "1", "aud": "fleet", "nonce": "n-1",
            "exp": 1_800_000_300, "iat": 1_799_999_990, "email": "ann@example.com",
        })
    }

    #[test]
    fn a_token_is_of_the_provider_for_us_for_now_and_of_this_login() {
        let provider = Provider::new();
        let head = json!({"alg": "ES256", "kid": "k"});
        let check = |changes: Value, expect: Result<(), &'static str>| {
            let mut claims_of = good();
            changes.as_object().unwrap().iter().for_each(|(name, value)| claims_of[name] = value.clone());
            claims_of.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            let found = claims(&provider.token(&head, &claims_of), &provider.keys("k"), EXPECTED).map(drop);
            assert_eq!(found, expect.map_err(Flaw::Wrong), "{changes}");
        };
        check(json!({}), Ok(()));
        check(json!({"aud": ["fleet"]}), Ok(()));
        check(json!({"aud": ["fleet", "other"], "azp": "fleet"}), Ok(()));
        check(json!({"aud": ["fleet", "other"]}), Err("it is for another client"));
        check(json!({"aud": "other"}), Err("it is for another client"));
        check(json!({"aud": null}), Err("it is for another client"));
        check(json!({"azp": "other"}), Err("it is for another client"));
        check(json!({"iss": "https://login.example/"}), Err("it is of another issuer"));
        check(json!({"exp": 1_799_999_941}), Ok(()));
        check(json!({"exp": 1_799_999_940}), Err("it has expired"));
        check(json!({"exp": null}), Err("it has expired"));
        check(json!({"exp": "1800000300"}), Err("it has a time that is none"));
        check(json!({"nbf": 1_800_000_061}), Err("it is not good yet"));
        check(json!({"nbf": "never"}), Err("it has a time that is none"));
        check(json!({"iat": 1_800_000_061}), Err("it was made in the future"));
        check(json!({"iat": null}), Err("it was made in the future"));
        check(json!({"nonce": "n-2"}), Err("it is of another login"));
        check(json!({"nonce": null}), Err("it is of another login"));
        check(json!({"sub": ""}), Err("it says of nobody"));
    }

    #[test]
    fn a_token_has_the_signature_of_a_key_of_the_provider() {
        let (provider, other) = (Provider::new(), Provider::new());
        let (keys, head) = (provider.keys("k"), json!({"alg": "ES256", "kid": "k"}));
        let token = provider.token(&head, &good());
        assert_eq!(claims(&token, &keys, EXPECTED).unwrap()["email"], "ann@example.com");
        let foreign = Err(Flaw::Wrong("its signature is not that of the provider"));
        assert_eq!(claims(&other.token(&head, &good()), &keys, EXPECTED), foreign);
        let mut parts: Vec<&str> = token.split('.').collect();
        let body = BASE64.encode(json!({"sub": "root"}).to_string());
        parts[1] = &body;
        assert_eq!(claims(&parts.join("."), &keys, EXPECTED), foreign);
        assert_eq!(claims(&token, &provider.keys("newer"), EXPECTED), Err(Flaw::NoKey));
        assert_eq!(claims(&token, &json!({}), EXPECTED), Err(Flaw::NoKey));
        for (head, what) in [
            (json!({"alg": "none"}), "it is signed in a way that is not taken"),
            (json!({"alg": "HS256", "kid": "k"}), "it is signed in a way that is not taken"),
            (json!({"kid": "k"}), "it is signed in a way that is not taken"),
            (json!({"alg": "RS256", "kid": "k"}), "its signature is not that of the provider"),
            (
                json!({"alg": "ES256", "kid": "k", "crit": ["b64"]}),
                "it has a header that has to be understood, and is not",
            ),
        ] {
            assert_eq!(claims(&provider.token(&head, &good()), &keys, EXPECTED), Err(Flaw::Wrong(what)), "{head}");
        }
        for text in ["", "a.b", "a.b.c", "..", &"x".repeat(BYTES_MAX + 1)] {
            assert_eq!(claims(text, &keys, EXPECTED), Err(Flaw::Wrong("it is no signed token")));
        }
    }
}
