/// Where work runs that would hold up the async threads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blocking {
    /// On tokio's blocking threads.
    Threads,
    /// On the calling thread, for a deterministic simulation.
    Inline,
}

impl Blocking {
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Blocking::Inline => work(),
            Blocking::Threads => tokio::task::spawn_blocking(work)
                .await
                .expect("the work does not panic"),
        }
    }
}
