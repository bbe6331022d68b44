//! The cookie that the library expects. It makes cookies by itself, bound to the ClientHello alone
//! and by a secret of each session, which therefore would have to exist before the address is
//! known. [`Cookies`](super::opening::Cookies) decides instead: around the one call that hands over
//! a ClientHello whose cookie was verified, the library is told to expect this cookie.

use std::cell::Cell;

use dimpl::HashAlgorithm;
use dimpl::crypto::rust_crypto::default_provider;
use dimpl::crypto::{CryptoProvider, HmacProvider};

thread_local! {
    static VERIFIED: Cell<Option<[u8; 32]>> = const { Cell::new(None) };
}

/// Runs `call`, during which the library expects `cookie` in a ClientHello.
pub(super) fn expecting<T>(cookie: [u8; 32], call: impl FnOnce() -> T) -> T {
    /// Forgets the cookie, even if the library panics.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            VERIFIED.set(None);
        }
    }
    let _forget = Forget;
    VERIFIED.set(Some(cookie));
    call()
}

/// The library's cryptography, with these cookies.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        hmac_provider: &CookieHmac,
        ..default_provider()
    }
}

#[derive(Debug)]
struct CookieHmac;

impl HmacProvider for CookieHmac {
    /// The library calls this for cookies alone; a test would see it if a version of it did not.
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], dimpl::CryptoError> {
        if let Some(cookie) = VERIFIED.get() {
            return Ok(cookie);
        }
        default_provider().hmac_provider.hmac_sha256(key, data)
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, dimpl::CryptoError> {
        default_provider().hmac_provider.hmac(hash, key, data, out)
    }
}
