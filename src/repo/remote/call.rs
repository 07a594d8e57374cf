//! A call to a remote in a separate thread, so that a slow remote does not block the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::RemoteError;

/// A call that was begun. A call that is dropped still runs to its end, and its result is lost.
#[derive(Debug)]
pub struct Call<T> {
    result: Receiver<Result<T, RemoteError>>,
    has_ended: Arc<AtomicBool>,
}

/// Sets `has_ended` when a call ends, also by a panic, then calls `tell`.
struct CallEnd<F: FnOnce()> {
    has_ended: Arc<AtomicBool>,
    tell: Option<F>,
}

impl<F: FnOnce()> Drop for CallEnd<F> {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        if let Some(tell) = self.tell.take() {
            tell();
        }
    }
}

impl<T: Send + 'static> Call<T> {
    /// Begins a call, and calls `tell_end` when it has ended. A call that cannot begin ends with that error.
    pub fn begin(
        work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
        tell_end: impl FnOnce() + Send + 'static,
    ) -> Call<T> {
        let (sender, result) = channel();
        let failed = sender.clone();
        let has_ended = Arc::new(AtomicBool::new(false));
        let end = CallEnd { has_ended: Arc::clone(&has_ended), tell: Some(tell_end) };
        let work = move || {
            // Dropped last, after the result was sent.
            let _end = end;
            // The receiver is gone when the call was dropped.
            drop(sender.send(work()));
        };
        if let Err(source) = std::thread::Builder::new().name("remote".to_string()).spawn(work) {
            // Without a thread `end` was dropped with the closure.
            drop(failed.send(Err(RemoteError::NoGit { source })));
        }
        Call { result, has_ended }
    }

    /// Returns true when the call has ended, so that [`Call::wait`] returns at once.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Waits for the end of the call, for at most `patience`; the outer error returns the call when it has not ended.
    pub fn wait(self, patience: Duration) -> Result<Result<T, RemoteError>, Call<T>> {
        match self.result.recv_timeout(patience) {
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
        let call = Call::begin(
            move || {
                gate.recv().ok();
                Ok(7)
            },
            || {},
        );
        assert!(!call.has_ended());
        let call = call.wait(Duration::from_millis(1)).unwrap_err();
        open.send(()).unwrap();
        assert!(matches!(call.wait(Duration::from_secs(60)), Ok(Ok(7))));
    }

    #[test]
    fn a_call_that_dies_has_ended() {
        let call: Call<()> = Call::begin(|| std::panic::resume_unwind(Box::new("gone")), || {});
        assert!(matches!(call.wait(Duration::from_secs(60)), Ok(Err(RemoteError::NoGit { .. }))));
    }
}
