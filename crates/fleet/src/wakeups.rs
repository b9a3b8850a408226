//! Tells the dispatcher that the log has grown, by whomever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aedile_core::event::Position;
use aedile_core::store::{Store, StoreError};
use tokio::sync::watch;

/// How long one wait for the store lasts; a dropped watcher ends within this time.
const LOOK: Duration = Duration::from_millis(500);

/// Watches the log from a thread that may block. Dropping it ends the watch.
pub(crate) struct Wakeups {
    seen: watch::Receiver<Result<Position, String>>,
    ended: Arc<AtomicBool>,
}

impl Wakeups {
    /// Starts to watch.
    pub(crate) fn start(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let (tell, seen) = watch::channel(Ok(Position::default()));
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let watch = move || {
            let mut after = Position::default();
            while !stop.load(Ordering::Relaxed) {
                match store.wait_for_change(after, LOOK) {
                    Ok(last) if last == after => {}
                    Ok(last) => {
                        after = last;
                        // What nobody has looked at yet is replaced.
                        drop(tell.send_replace(Ok(last)));
                    }
                    Err(error) => {
                        drop(tell.send_replace(Err(error.to_string())));
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new().name("wakeups".to_owned()).spawn(watch).map_err(|error| StoreError::Backend(error.to_string()))?;
        Ok(Self { seen, ended })
    }

    /// Returns when the log has grown since the last return.
    pub(crate) async fn changed(&mut self) -> Result<(), StoreError> {
        let gone = || StoreError::Backend("the store is no longer watched".to_owned());
        self.seen.changed().await.map_err(|_| gone())?;
        self.seen.borrow_and_update().clone().map(drop).map_err(StoreError::Backend)
    }
}

impl Drop for Wakeups {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
