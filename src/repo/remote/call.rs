//! A call of a remote that goes on in a thread of its own: a remote that takes its time holds nobody up.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::RemoteError;

/// A call that was begun. One that is dropped goes on to its end, and nobody hears of it.
#[derive(Debug)]
pub struct Call<T> {
    ended: Receiver<Result<T, RemoteError>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Call<T> {
    /// Begins a call. What keeps it from beginning is how it ends.
    pub fn begin(work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static) -> Call<T> {
        let (tell, ended) = channel();
        let failed = tell.clone();
        let work = move || {
            // Nobody listens when the call was dropped.
            drop(tell.send(work()));
        };
        let thread = match std::thread::Builder::new().name("remote".to_string()).spawn(work) {
            Ok(thread) => Some(thread),
            Err(source) => {
                drop(failed.send(Err(RemoteError::NoGit { source })));
                None
            }
        };
        Call { ended, thread }
    }

    /// Returns true when it has ended: waiting for it takes no time.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end, for at most so long; the outer error is the call, when it goes on.
    pub fn wait(self, patience: Duration) -> Result<Result<T, RemoteError>, Call<T>> {
        match self.ended.recv_timeout(patience) {
            Ok(ended) => Ok(ended),
            Err(RecvTimeoutError::Timeout) => Err(self),
            Err(RecvTimeoutError::Disconnected) => {
                let source = std::io::Error::other("the thread that ran it ended without a word");
                Ok(Err(RemoteError::NoGit { source }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_waited_for_as_long_as_one_likes() {
        let (open, gate) = channel::<()>();
        let call = Call::begin(move || {
            gate.recv().ok();
            Ok(7)
        });
        assert!(!call.has_ended());
        let call = call.wait(Duration::from_millis(1)).unwrap_err();
        open.send(()).unwrap();
        assert!(matches!(call.wait(Duration::from_secs(60)), Ok(Ok(7))));
    }

    #[test]
    fn a_call_that_dies_has_ended() {
        let call: Call<()> = Call::begin(|| std::panic::resume_unwind(Box::new("gone")));
        assert!(matches!(call.wait(Duration::from_secs(60)), Ok(Err(RemoteError::NoGit { .. }))));
    }
}
