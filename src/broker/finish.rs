//! Work that is done to its end, also when whoever waits for it is gone.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::runtime::Handle;

/// Runs where it is awaited, so that an exchange costs no hop between threads; once nobody waits any more, what is left of it
/// becomes a task of the broker's runtime.
///
/// Its timers and connections are that runtime's from the beginning: the HTTP workers' runtimes end with their last
/// connection.
pub(super) struct Finish<T: Send + 'static> {
    /// `None` at its end.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    runtime: Handle,
}

impl<T: Send + 'static> Finish<T> {
    pub(super) fn new(runtime: Handle, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), runtime }
    }
}

impl<T: Send + 'static> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Not left in its place: work that panicked is not to go on.
        let mut work = self.work.take().expect("work that ended is not polled again");
        let entered = self.runtime.enter();
        let polled = work.as_mut().poll(context);
        drop(entered);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::{runtime::Builder, sync::oneshot};

    #[test]
    fn goes_on_when_nobody_waits_and_their_runtime_is_gone() {
        let ours = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (told, tell) = oneshot::channel();
        let theirs = Builder::new_current_thread().enable_all().build().unwrap();
        theirs.block_on(async {
            let work = Finish::new(ours.handle().clone(), async {
                // A timer of whichever runtime it was begun in.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = told.send(7);
            });
            let _ = tokio::time::timeout(Duration::from_millis(1), work).await.unwrap_err();
        });
        drop(theirs);
        assert_eq!(ours.block_on(tell), Ok(7));
    }

    #[test]
    fn what_panicked_is_told_and_does_not_go_on() {
        let ours = Builder::new_current_thread().enable_all().build().unwrap();
        let work = Finish::<()>::new(ours.handle().clone(), async { panic!("as it should") });
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ours.block_on(work)));
        assert_eq!(told.unwrap_err().downcast_ref(), Some(&"as it should"));
    }
}
