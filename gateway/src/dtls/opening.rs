//! The first messages of a handshake, which are answered before any state exists: a ClientHello
//! without a valid cookie gets a HelloVerifyRequest (RFC 6347 section 4.2.1).

use std::net::{IpAddr, SocketAddr};

/// Content type of handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// Content type of the change to the new keys.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
/// Content type of application data.
pub(super) const APPLICATION_DATA: u8 = 23;
const HANDSHAKE_OPENING: u8 = 1;
const COOKIE_REQUEST: u8 = 3;
const RECORD_HEADER_BYTES: usize = 13;
const HANDSHAKE_HEADER_BYTES: usize = 12;
const COOKIE_BYTES: usize = 32;
/// A cookie is valid in the period of this length in which it was made, and in the next one.
const COOKIE_PERIOD_S: u64 = 60;

/// The header of a datagram's first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) content_type: u8,
    pub(super) epoch: u16,
}

impl RecordHeader {
    /// Reads the header; `None` if the datagram holds no record of DTLS 1.x.
    pub(super) fn read(datagram: &[u8]) -> Option<RecordHeader> {
        let header = datagram.get(..RECORD_HEADER_BYTES)?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let whole = datagram.len() >= RECORD_HEADER_BYTES + length;
        (header[1] == 254 && whole).then_some(RecordHeader {
            content_type: header[0],
            epoch: u16::from_be_bytes([header[3], header[4]]),
        })
    }
}

/// A ClientHello in one piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opening<'a> {
    record_number: &'a [u8],
    /// Its 32 random bytes.
    pub(super) random: &'a [u8],
    cookie: &'a [u8],
    /// Everything before the cookie, from the client's version on.
    before: &'a [u8],
    /// Everything after it.
    after: &'a [u8],
}

impl<'a> Opening<'a> {
    /// Reads the datagram's first record; `None` if it is no ClientHello, or a fragment of one.
    pub(super) fn read(datagram: &'a [u8]) -> Option<Opening<'a>> {
        let header = RecordHeader::read(datagram)?;
        if (header.content_type, header.epoch) != (HANDSHAKE, 0) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
        let message = &datagram[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length];
        let (head, body) = message.split_at_checked(HANDSHAKE_HEADER_BYTES)?;
        // Length, fragment's offset and fragment's length.
        let whole = head[1..4] == head[9..12] && head[6..9] == [0, 0, 0];
        let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        if head[0] != HANDSHAKE_OPENING || !whole || length != body.len() {
            return None;
        }
        // Version and random, then the id of a session, then the cookie.
        let random = body.get(2..34)?;
        let id_bytes = usize::from(*body.get(34)?);
        let at = 35 + id_bytes;
        let cookie_bytes = usize::from(*body.get(at)?);
        let cookie = body.get(at + 1..at + 1 + cookie_bytes)?;
        Some(Opening {
            record_number: &datagram[5..11],
            random,
            cookie,
            before: &body[..at],
            after: &body[at + 1 + cookie_bytes..],
        })
    }

    /// The same ClientHello as it is before a cookie is asked for.
    pub(super) fn without_cookie(&self) -> Vec<u8> {
        let body = [self.before, &[0], self.after].concat();
        record(&[0; 6], [254, 253], &handshake(HANDSHAKE_OPENING, &body))
    }

    /// The cookie, if it has the length of ours.
    pub(super) fn cookie(&self) -> Option<[u8; COOKIE_BYTES]> {
        self.cookie.try_into().ok()
    }

    /// The answer that asks for this cookie. It is shorter than any ClientHello, so that a spoofed
    /// one gains nothing.
    pub(super) fn verify_request(&self, cookie: &[u8; COOKIE_BYTES]) -> Vec<u8> {
        // The version is 1.0 for every client (section 4.2.1).
        let body = [&[254, 255, COOKIE_BYTES as u8], cookie.as_slice()].concat();
        let message = handshake(COOKIE_REQUEST, &body);
        record(self.record_number, [254, 255], &message)
    }
}

fn handshake(message_type: u8, body: &[u8]) -> Vec<u8> {
    let length = &(body.len() as u32).to_be_bytes()[1..];
    [&[message_type], length, &[0, 0, 0, 0, 0], length, body].concat()
}

fn record(number: &[u8], version: [u8; 2], fragment: &[u8]) -> Vec<u8> {
    let length = (fragment.len() as u16).to_be_bytes();
    let [major, minor] = version;
    let head = [HANDSHAKE, major, minor, 0, 0];
    [&head, number, &length, fragment].concat()
}

/// Makes and verifies cookies. A cookie is bound to the address, to the ClientHello's random and to
/// the time; nothing is stored.
#[derive(Debug)]
pub(super) struct Cookies {
    secret: [u8; 32],
}

impl Cookies {
    pub(super) fn new(secret: [u8; 32]) -> Cookies {
        Cookies { secret }
    }

    /// The cookie of a ClientHello from an address, `seconds` after the start.
    pub(super) fn cookie(
        &self,
        seconds: u64,
        address: SocketAddr,
        opening: &Opening<'_>,
    ) -> [u8; COOKIE_BYTES] {
        self.of_period(seconds / COOKIE_PERIOD_S, address, opening)
    }

    /// True if the ClientHello has the cookie of its address, from this period or the last one.
    pub(super) fn verify(&self, seconds: u64, address: SocketAddr, opening: &Opening<'_>) -> bool {
        let Some(cookie) = opening.cookie() else {
            return false;
        };
        let period = seconds / COOKIE_PERIOD_S;
        // The comparison of `blake3::Hash` takes the same time for all values.
        let cookie = blake3::Hash::from_bytes(cookie);
        [Some(period), period.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| cookie == blake3::Hash::from(self.of_period(period, address, opening)))
    }

    fn of_period(
        &self,
        period: u64,
        address: SocketAddr,
        opening: &Opening<'_>,
    ) -> [u8; COOKIE_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&period.to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => hasher.update(&ip.octets()),
            IpAddr::V6(ip) => hasher.update(&ip.octets()),
        };
        hasher.update(&address.port().to_be_bytes());
        hasher.update(opening.before).update(opening.after);
        hasher.finalize().into()
    }
}
