//! What was done for somebody, said once on the page that they are sent back to.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::sessions::random;
use crate::model::limits::PAGE_NOTES_MAX;

/// Sentences by names that nobody guesses: an address alone cannot make a page say something.
#[derive(Default)]
pub struct Said {
    kept: Mutex<VecDeque<(String, String)>>,
}

impl Said {
    /// Keeps a sentence and returns its name; `None` when the system has no randomness. The oldest makes room.
    pub fn keep(&self, text: &str) -> Option<String> {
        let name = random().ok()?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PAGE_NOTES_MAX {
            kept.pop_front();
        }
        kept.push_back((name.clone(), text.to_string()));
        Some(name)
    }

    /// Returns the sentence of a name.
    pub fn find(&self, name: &str) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let said = Said::default();
        let first = said.keep("first").unwrap();
        assert_eq!(said.find(&first).as_deref(), Some("first"));
        (0..PAGE_NOTES_MAX).for_each(|_| drop(said.keep("later")));
        assert_eq!((said.find(&first), said.find("")), (None, None));
        assert_eq!(said.kept.lock().unwrap().len(), PAGE_NOTES_MAX);
    }
}
