//! The key that the marks of secrets are made with: a row of `meta`, there as soon as a job with a secret was claimed.

use super::super::meta::SECRET_KEY;
use super::connection::Connection;
use super::fault::Fault;
use super::rows::malformed;
use crate::model::encoding::hex;
use crate::model::secret::SecretKey;

/// Returns the key; `None` when no job with a secret was claimed yet.
pub(super) fn key(connection: &Connection) -> Result<Option<SecretKey>, Fault> {
    let Some(hex) = super::remembered::value_of(connection, SECRET_KEY)? else { return Ok(None) };
    // The text is not told: it is the key.
    SecretKey::parse(&hex).map(Some).ok_or_else(|| malformed(SECRET_KEY))
}

/// Makes the key unless there is one.
pub(super) fn make_key(connection: &Connection) -> Result<(), Fault> {
    let mut drawn = [0; 32];
    getrandom::fill(&mut drawn).map_err(|error| Fault::Io(std::io::Error::other(error.to_string())))?;
    let text = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    connection.execute(text, &[&SECRET_KEY, &hex(&drawn)]).map(drop)
}
