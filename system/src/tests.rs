use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn backoff_doubles_up_to_the_longest_pause() {
    let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
    let mut backoff = Backoff::new(min, max);
    for expected_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
        let expected = Duration::from_millis(expected_ms);
        let pause = backoff.next_pause();
        assert!(
            pause >= expected / 2 && pause <= expected,
            "{pause:?} for {expected:?}"
        );
    }
    backoff.reset();
    assert!(backoff.next_pause() <= min);
}

#[test]
fn rate_limit_allows_a_burst_then_the_rate() {
    let start = Instant::now();
    let mut limit = RateLimit::new(10.0, 3.0, start);
    assert_eq!((0..5).filter(|_| limit.try_acquire(start)).count(), 3);
    let soon = start + Duration::from_millis(100);
    assert!(limit.try_acquire(soon));
    assert!(!limit.try_acquire(soon));
    // A clock that goes back earns nothing.
    assert!(!limit.try_acquire(start));
    let long_after = start + Duration::from_secs(3600);
    assert_eq!((0..9).filter(|_| limit.try_acquire(long_after)).count(), 3);
}

#[test]
fn a_charge_over_the_burst_is_a_debt() {
    let start = Instant::now();
    let mut limit = RateLimit::new(10.0, 5.0, start);
    assert_eq!(limit.charge(5.0, start), Duration::ZERO);
    assert_eq!(limit.charge(20.0, start), Duration::from_secs(2));
    let paid = start + Duration::from_secs(2);
    assert_eq!(limit.charge(0.0, paid), Duration::ZERO);
    assert!(!limit.try_acquire(paid));
}

#[derive(Debug)]
struct Failure(&'static str, Option<Box<Failure>>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as &dyn Error)
    }
}

#[test]
fn error_chain_names_each_cause_once() {
    let cause = Failure("disk full", None);
    let middle = Failure("writing: disk full", Some(Box::new(cause)));
    let error = Failure("starting", Some(Box::new(middle)));
    assert_eq!(error_chain(&error), "starting: writing: disk full");
}

#[test]
fn files_replace_keeps_the_old_content_when_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    files::replace(&path, b"one").unwrap();
    files::replace(&path, b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert!(!path.with_extension("new").exists());
    // A directory in the way of the new file.
    std::fs::create_dir(path.with_extension("new")).unwrap();
    files::replace(&path, b"three").unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
}

#[test]
fn a_text_file_is_read_without_its_byte_order_mark() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        crate::files::read_text(&path).map_err(|error| error.to_string())
    };
    assert_eq!(read(b"\xef\xbb\xbfa\r\nb"), Ok("a\r\nb".to_owned()));
    assert_eq!(read(b""), Ok(String::new()));
    assert!(read(b"\xff\xfea\0").unwrap_err().contains("UTF-16"));
    assert!(read(b"\xef\xbb\xbfab\xf6").unwrap_err().contains("byte 5"));
    // Whoever hands over a file does not decide how much memory its reader takes.
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let refused = crate::files::read_text(&path).unwrap_err().to_string();
    assert!(refused.contains("more than 67108864 bytes"), "{refused}");
}

#[test]
fn a_supervisor_gets_the_state_of_the_service() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let name = format!("lamplighter-test-{}", std::process::id());
    let nameless = SocketAddr::from_abstract_name(&name).unwrap();
    let sockets = [
        (
            path.as_os_str().to_owned(),
            UnixDatagram::bind(&path).unwrap(),
        ),
        (
            format!("@{name}").into(),
            UnixDatagram::bind_addr(&nameless).unwrap(),
        ),
    ];
    for (address, socket) in sockets {
        let time = Some(Duration::from_secs(60));
        let supervisor = Supervisor::connect(&address, time).unwrap();
        assert_eq!(supervisor.watchdog(), time);
        supervisor.notify("READY=1\nSTATUS=up").unwrap();
        let mut buffer = [0; 64];
        let count = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"READY=1\nSTATUS=up");
        // One that does not read holds up nobody.
        while supervisor.notify("WATCHDOG=1").is_ok() {}
        drop(socket);
        assert!(supervisor.notify("WATCHDOG=1").is_err());
    }
    assert!(Supervisor::connect("/nowhere/notify".as_ref(), None).is_err());
}
