//! Sessions of browsers that have logged in. They end with the process, and with a browser that forgets its cookie.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::model::encoding::hex;
use crate::model::limits::{SESSION_TIME_MAX, SESSIONS_MAX};

/// Bytes of the name of a session.
const BYTES: usize = 32;

/// What a session began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The digest of a token: it ends when the file of tokens has it no more.
    Token([u8; 32]),
    /// A provider of OpenID Connect.
    Provider,
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who has logged in.
    pub name: String,
    /// What a form has to bring.
    pub token: String,
    pub proof: Proof,
    begun_at: Instant,
    used_at: Instant,
}

/// All sessions, by what their cookie says.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<BTreeMap<String, Session>>,
}

impl Sessions {
    /// Begins a session, and returns what its cookie says. When there are as many as may be, the one that was used
    /// longest ago ends.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn begin(&self, name: &str, proof: Proof) -> Result<String, getrandom::Error> {
        let (id, token) = (random()?, random()?);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.begun_at.elapsed() < SESSION_TIME_MAX);
        if open.len() >= SESSIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, session)| session.used_at).map(|(id, _)| id.clone());
            oldest.map(|id| open.remove(&id));
        }
        let now = Instant::now();
        open.insert(id.clone(), Session { name: name.to_string(), token, proof, begun_at: now, used_at: now });
        Ok(id)
    }

    /// Returns a session that is open.
    pub fn find(&self, id: &str) -> Option<Session> {
        self.find_at(id, Instant::now())
    }

    fn find_at(&self, id: &str, now: Instant) -> Option<Session> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get_mut(id).filter(|session| now.duration_since(session.begun_at) < SESSION_TIME_MAX)?;
        session.used_at = now;
        Some(session.clone())
    }

    /// Ends a session.
    pub fn end(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// Returns a text that nobody guesses.
///
/// # Errors
/// The system has no randomness.
pub fn random() -> Result<String, getrandom::Error> {
    let mut drawn = [0; BYTES];
    getrandom::fill(&mut drawn)?;
    Ok(hex(&drawn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_until_it_ends_and_the_oldest_makes_room() {
        let sessions = Sessions::default();
        let first = sessions.begin("ann", Proof::Provider).unwrap();
        assert_eq!(sessions.find(&first).unwrap().name, "ann");
        let second = sessions.begin("bob", Proof::Token([2; 32])).unwrap();
        sessions.end(&second);
        assert!(sessions.find(&second).is_none() && sessions.find("").is_none());
        (0..SESSIONS_MAX).for_each(|_| drop(sessions.begin("eve", Proof::Provider).unwrap()));
        assert!(sessions.find(&first).is_none());
        assert_eq!(sessions.open.lock().unwrap().len(), SESSIONS_MAX);
    }

    #[test]
    fn a_session_ends_some_hours_after_it_began_however_it_is_used() {
        let sessions = Sessions::default();
        let id = sessions.begin("ann", Proof::Provider).unwrap();
        let begun = Instant::now();
        assert!(sessions.find_at(&id, begun + SESSION_TIME_MAX / 2).is_some());
        assert!(sessions.find_at(&id, begun + SESSION_TIME_MAX).is_none());
    }
}
