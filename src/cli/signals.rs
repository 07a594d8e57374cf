//! Ctrl-C and SIGTERM, heard on a thread of their own: the commands are synchronous.

/// Calls `heard` for each Ctrl-C and SIGTERM that comes after this has returned. Without it they end the process.
///
/// # Errors
/// The system refuses a thread or the signals.
pub fn on_signals(mut heard: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let listen = move || {
        runtime.block_on(async {
            loop {
                signals.next().await;
                heard();
            }
        });
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(listen).map(drop)
}

struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Begins to listen, in a runtime.
    fn listen() -> std::io::Result<Signals> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
        }
        #[cfg(not(unix))]
        Ok(Signals {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        drop(tokio::signal::ctrl_c().await);
    }
}
