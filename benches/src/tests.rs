use std::time::Duration;

use crate::http::{Head, HttpError, parse_head};
use crate::procfs::{Memory, parse_cpu, parse_stat, parse_status};
use crate::report::percentile;

#[test]
fn percentiles_are_values_that_were_measured() {
    let values: Vec<u32> = (1..=100).collect();
    let wanted = [(50.0, 50), (99.0, 99), (100.0, 100), (0.0, 1)];
    for (percent, value) in wanted {
        assert_eq!(percentile(&values, percent), value);
    }
    assert_eq!(percentile(&[7], 50.0), 7);
    assert_eq!(percentile(&[], 50.0), 0);
}

#[test]
fn a_process_name_with_brackets_is_parsed() {
    let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0";
    assert_eq!(parse_stat(stat), Some(Duration::from_secs(2)));
    assert_eq!(parse_stat("42 (a) S 1 2"), None);
}

#[test]
fn idle_time_is_not_used_time() {
    let stat = "cpu  100 0 50 9999 9999 10 20 20 0 0\ncpu0 1 2 3\n";
    assert_eq!(parse_cpu(stat), Some(Duration::from_secs(2)));
}

#[test]
fn memory_is_in_bytes() {
    let status = "Name:\tx\nVmHWM:\t    20 kB\nVmRSS:\t    10 kB\n";
    let memory = Memory {
        now_bytes: 10_240,
        peak_bytes: 20_480,
    };
    assert_eq!(parse_status(status), Some(memory));
    assert_eq!(parse_status("Name:\tx\n"), None);
}

#[test]
fn heads_are_parsed_once_they_are_complete() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for cut in 0..text.len() - 5 {
        assert!(matches!(parse_head(&text[..cut]), Ok(None)), "{cut}");
    }
    let head = Head {
        status: 200,
        head_bytes: text.len() - 5,
        body_bytes: Some(5),
    };
    assert_eq!(parse_head(text).unwrap(), Some(head));
}

#[test]
fn heads_without_a_length_or_too_long_are_refused() {
    let refused = |text: &str| parse_head(text.as_bytes()).unwrap_err();
    assert!(matches!(
        refused("HTTP/1.1 200 OK\r\n\r\n"),
        HttpError::Malformed
    ));
    assert!(matches!(
        refused("nonsense\r\ncontent-length: 1\r\n\r\n"),
        HttpError::Malformed
    ));
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n";
    assert!(matches!(refused(long), HttpError::TooLong));
    assert!(matches!(refused(&"x".repeat(20_000)), HttpError::TooLong));
}
