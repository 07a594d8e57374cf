//! Files for Mosquitto: who may connect, and which topics they reach.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Sha512;

use crate::model::digest::Digest;

/// The user that the access control list gives all topics.
const OWN_USER: &str = "fleetform";
/// The key derivations of `mosquitto_passwd`.
const ITERATIONS: u32 = 101;
const SALT_BYTES: usize = 12;
const HASH_BYTES: usize = 64;

/// Returns the line of a device in a password file; `None` for an id that cannot be a user name there, or a level of a
/// topic as it is.
///
/// The format is that of Mosquitto 2 (`lib/misc_mosq.c`, `src/password_file.c`): `user:$7$iterations$salt$hash`, with
/// PBKDF2 over HMAC-SHA-512, and both in base64. The salt is a function of the device and its key: the same devices give
/// the same bytes.
pub(super) fn password_line(device_id: &str, password: &str) -> Option<String> {
    let is_legal = |c: char| !matches!(c, ':' | '+' | '#' | '/' | '%') && (' '..='~').contains(&c);
    // The later of two lines of one user counts: no device becomes the user that reaches all topics.
    if device_id == OWN_USER || !device_id.chars().all(is_legal) {
        return None;
    }
    let salt = Digest::of_texts(["mosquitto", device_id, password]).to_string();
    let salt = &salt.as_bytes()[..SALT_BYTES];
    let mut hash = [0; HASH_BYTES];
    pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), salt, ITERATIONS, &mut hash);
    Some(format!("{device_id}:$7${ITERATIONS}${}${}", STANDARD.encode(salt), STANDARD.encode(hash)))
}

/// Writes the access control list of a fleet.
pub(super) fn write_acl(stream: &mut dyn Write, prefix: &str) -> io::Result<()> {
    write!(
        stream,
        "# fleetform speaks to all devices, and hears them.\n\
         user {OWN_USER}\n\
         topic readwrite {prefix}/#\n\
         \n\
         # A device, whose user name is its id, reaches its own topics and no others.\n\
         pattern read {prefix}/%u/methods/POST/#\n\
         pattern read {prefix}/%u/twin/PATCH/properties/desired/#\n\
         pattern read {prefix}/%u/twin/res/#\n\
         pattern write {prefix}/%u/methods/res/#\n\
         pattern write {prefix}/%u/twin/PATCH/properties/reported/#\n\
         pattern write {prefix}/%u/twin/GET/#\n\
         pattern write {prefix}/%u/presence\n"
    )
}
