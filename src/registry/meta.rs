//! The keys of the table `meta`, which every store has, and whose rows go from one store into another.

use super::Noted;

/// Which registry it is.
pub(super) const IDENTITY: &str = "identity";
/// The identity of the registry that this one is an unfinished copy of.
pub(super) const COPY_OF: &str = "copy_of";
/// The identity that this registry gave up, a space, and where the copy is.
pub(super) const GAVE_UP: &str = "gave_up";
/// How many devices there are.
pub(super) const DEVICES: &str = "devices";
/// The key of the marks of secrets.
pub(super) const SECRET_KEY: &str = "secret_key";
/// Another value with each change of the claims.
pub(super) const CLAIMS_VERSION: &str = "claims_version";
/// Another value whenever devices may have got other keys, were blocked or unblocked, or deleted.
pub(super) const ADMISSIONS: &str = "admissions";
/// An entry of the outbox has a key that begins so, and goes on with what the entry is about.
pub(super) const OUTBOX: &str = "outbox:";

/// Returns the key of what is noted.
pub(super) fn key_of(what: Noted) -> &'static str {
    match what {
        Noted::ResultsTip => "results_tip",
        Noted::KeptTip => "kept_tip",
        Noted::AppliedHead => "applied_head",
    }
}

/// Returns the key of a saved plan that was used.
pub(super) fn key_of_plan(plan_id: &str) -> String {
    format!("used_plan/{plan_id}")
}
