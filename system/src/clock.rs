use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds by the system's clock; 0 before 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
