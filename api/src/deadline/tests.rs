use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{BYTES_PER_WRITE_TIME, WriteDeadline};

const WRITE_TIME: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_is_cut_in_time() {
    let (stream, _other) = duplex(1_024);
    let mut stream = WriteDeadline::new(stream, WRITE_TIME);
    let begin = tokio::time::Instant::now();
    let error = stream.write_all(&[0; 4_096]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(begin.elapsed().as_secs(), WRITE_TIME.as_secs());
}

/// A little now and then must not hold a connection for ever.
#[tokio::test(start_paused = true)]
async fn one_that_reads_a_byte_now_and_then_is_cut() {
    let (stream, mut other) = duplex(1_024);
    let mut stream = WriteDeadline::new(stream, WRITE_TIME);
    let reader = tokio::spawn(async move {
        let mut byte = [0];
        while other.read_exact(&mut byte).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let begin = tokio::time::Instant::now();
    let error = stream.write_all(&[0; 4_096]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(begin.elapsed() <= WRITE_TIME + Duration::from_secs(2));
    drop(stream);
    reader.await.unwrap();
}

/// A slow field link that carries a kilobyte a second.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything() {
    let (stream, mut other) = duplex(1_024);
    let mut stream = WriteDeadline::new(stream, WRITE_TIME);
    const SIZE: usize = 8 * BYTES_PER_WRITE_TIME;
    let reader = tokio::spawn(async move {
        let (mut piece, mut read) = ([0; 1_024], 0);
        while read < SIZE {
            tokio::time::sleep(Duration::from_secs(1)).await;
            read += other.read(&mut piece).await.unwrap();
        }
    });
    let begin = tokio::time::Instant::now();
    stream.write_all(&[0; SIZE]).await.unwrap();
    reader.await.unwrap();
    assert!(begin.elapsed() > 2 * WRITE_TIME);
}

/// A stream of events may be silent for hours between two of them.
#[tokio::test(start_paused = true)]
async fn time_without_anything_to_write_does_not_count() {
    let (stream, mut other) = duplex(1_024);
    let mut stream = WriteDeadline::new(stream, WRITE_TIME);
    for _ in 0..10 {
        let reader = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let mut piece = [0; 1_500];
            other.read_exact(&mut piece).await.unwrap();
        };
        let (written, ()) = tokio::join!(stream.write_all(&[0; 1_500]), reader);
        written.unwrap();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}
