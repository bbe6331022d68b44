//! A connection whose other end must read: what is written has to be taken at a least rate, or the
//! connection is cut, so that its memory and its place are free for others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that the other end takes at least in each write time while something waits for it: half a
/// kilobyte a second with the default of 30 s, which the slowest field links carry.
const BYTES_PER_WRITE_TIME: usize = 16 * 1024;

/// A stream with a least rate of writing. Time in which nothing waits to be written does not count.
pub struct WriteDeadline<S> {
    stream: S,
    write_time: Duration,
    /// Since when a write waits, and the timer for it.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Waiting time since the other end last took its bytes, and what it took in it.
    waited: Duration,
    taken: usize,
}

impl<S> WriteDeadline<S> {
    pub fn new(stream: S, write_time: Duration) -> Self {
        Self {
            stream,
            write_time,
            waiting: None,
            waited: Duration::ZERO,
            taken: 0,
        }
    }

    /// Counts the end of a write, or begins to count its waiting time.
    fn count(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some((since, _)) = self.waiting.take() {
                    self.waited += since.elapsed();
                }
                self.taken += bytes;
                if self.taken >= BYTES_PER_WRITE_TIME {
                    (self.taken, self.waited) = (0, Duration::ZERO);
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let left = self.write_time.saturating_sub(self.waited);
                let (_, timer) = self.waiting.get_or_insert_with(|| {
                    let timer = tokio::time::sleep(left);
                    (Instant::now(), Box::pin(timer))
                });
                ready!(timer.as_mut().poll(context));
                let slow = io::Error::new(io::ErrorKind::TimedOut, "the other end does not read");
                Poll::Ready(Err(slow))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.count(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
