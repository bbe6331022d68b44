//! Quotas of each account, and of each address for what needs no token: requests, bytes and
//! streams. Nobody who floods takes the node's time from others.
//!
//! A request beyond its rate is answered with 429 after a pause: a client that sends one after the
//! other is slowed down, and costs no more than its connection. Bytes beyond their rate are
//! delayed, not refused, in both directions.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use lamplighter_system::RateLimit;
use lamplighter_types::Id;
use tokio::time::Sleep;

use super::App;
use super::error::{ApiError, code};
use crate::settings::QuotaSettings;

/// Pause before the answer to a request that exceeds its rate.
const REFUSAL_PAUSE: Duration = Duration::from_millis(200);
/// Seconds whose amount may come at once after a silence.
const BURST_SECONDS: f64 = 2.0;
/// Accounts and addresses that are counted apart; further addresses share one count.
const PARTIES_MAX: usize = 16_384;
/// A party is forgotten after so long without a request: its rates are full again by then.
const IDLE: Duration = Duration::from_secs(10);
/// Bits of an IPv6 address that one client has for itself.
const IPV6_CLIENT_BITS: u32 = 64;

/// The address of a connection's other end, in the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// The party to which a request is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Party {
    Account(Id),
    Address(IpAddr),
    /// Addresses beyond [`PARTIES_MAX`].
    Others,
}

struct PartyUse {
    requests: RateLimit,
    bytes: RateLimit,
    uploaded: RateLimit,
    requests_now: usize,
    streams_now: usize,
    last: Instant,
}

/// The use of the node by all parties.
#[derive(Clone)]
pub struct Quotas {
    settings: Arc<QuotaSettings>,
    parties: Arc<Mutex<HashMap<Party, PartyUse>>>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    Rate,
    AtOnce,
    Streams,
}

impl Quotas {
    pub fn new(settings: QuotaSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            parties: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Party, PartyUse>> {
        self.parties
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    fn with<T>(&self, party: &Party, change: impl FnOnce(&mut PartyUse, Instant) -> T) -> T {
        let now = Instant::now();
        let mut parties = self.lock();
        if !parties.contains_key(party) {
            if parties.len() >= PARTIES_MAX {
                let in_use = |party: &PartyUse| {
                    let is_recent = now.saturating_duration_since(party.last) < IDLE;
                    party.requests_now > 0 || party.streams_now > 0 || is_recent
                };
                parties.retain(|_, party| in_use(party));
            }
            // Accounts are as many as the ledger has.
            if parties.len() >= PARTIES_MAX && matches!(party, Party::Address(_)) {
                let others = parties.entry(Party::Others);
                return change(others.or_insert_with(|| self.unused(now, true)), now);
            }
        }
        let is_address = !matches!(party, Party::Account(_));
        let entry = parties.entry(party.clone());
        let used = entry.or_insert_with(|| self.unused(now, is_address));
        used.last = now;
        change(used, now)
    }

    fn unused(&self, now: Instant, is_address: bool) -> PartyUse {
        let limit = |rate: u32| {
            let rate = f64::from(rate);
            RateLimit::new(rate, rate * BURST_SECONDS, now)
        };
        let requests = if is_address {
            self.settings.address_requests_per_second
        } else {
            self.settings.requests_per_second
        };
        PartyUse {
            requests: limit(requests),
            bytes: limit(self.settings.bytes_per_second),
            uploaded: limit(self.settings.upload_bytes_per_second),
            requests_now: 0,
            streams_now: 0,
            last: now,
        }
    }

    /// Begins a request of a party, which ends when the answer is dropped.
    fn begin(&self, party: Party) -> Result<ActiveRequest, Excess> {
        let at_once = self.settings.requests_at_once as usize;
        let counted = matches!(party, Party::Account(_));
        let begun = self.with(&party, |party, now| {
            if counted && party.requests_now >= at_once {
                return Err(Excess::AtOnce);
            }
            party.requests_now += 1;
            Ok(party.requests.try_acquire(now))
        });
        Ok(ActiveRequest {
            is_in_rate: begun?,
            quotas: self.clone(),
            party,
        })
    }

    /// Counts further requests of an address, which its next ones have to wait for.
    pub fn charge_requests(&self, address: IpAddr, requests: usize) {
        let party = Party::Address(client_of(address));
        self.with(&party, |party, now| {
            party.requests.charge(requests as f64, now)
        });
    }

    /// Counts bytes of a party; returns how long the next ones have to wait.
    fn charge(&self, party: &Party, bytes: usize) -> Duration {
        self.with(party, |party, now| party.bytes.charge(bytes as f64, now))
    }

    /// Counts bytes of a party's requests likewise.
    fn charge_upload(&self, party: &Party, bytes: usize) -> Duration {
        let charge = |party: &mut PartyUse, now| party.uploaded.charge(bytes as f64, now);
        self.with(party, charge)
    }

    /// The request of an account, whose body is read no faster than its rate.
    pub fn counting_upload(&self, account: &Id, request: Request) -> Request {
        let (quotas, party) = (self.clone(), Party::Account(account.clone()));
        request.map(|body| {
            Body::new(CountedBody {
                body,
                charge: move |bytes| quotas.charge_upload(&party, bytes),
                pause: None,
            })
        })
    }

    /// Begins a stream of an account, or of all readers without one.
    ///
    /// # Errors
    /// The account has as many as it may.
    pub fn begin_stream(&self, account: Option<&Id>) -> Result<ActiveStream, ApiError> {
        let most = self.settings.streams as usize;
        let party = account.cloned().map_or(Party::Others, Party::Account);
        // Without tokens nobody can be told apart; the bound of all streams counts.
        let counted = account.is_some();
        let begun = self.with(&party, |party, _| {
            if counted && party.streams_now >= most {
                return Err(Excess::Streams);
            }
            party.streams_now += 1;
            Ok(())
        });
        begun.map_err(|excess| refused(excess, &self.settings))?;
        Ok(ActiveStream {
            quotas: self.clone(),
            party,
        })
    }
}

/// A request that is being answered.
struct ActiveRequest {
    quotas: Quotas,
    party: Party,
    is_in_rate: bool,
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let end = |party: &mut PartyUse, _| {
            party.requests_now = party.requests_now.saturating_sub(1);
        };
        self.quotas.with(&self.party, end);
    }
}

/// A stream that is open.
pub struct ActiveStream {
    quotas: Quotas,
    party: Party,
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        let end = |party: &mut PartyUse, _| {
            party.streams_now = party.streams_now.saturating_sub(1);
        };
        self.quotas.with(&self.party, end);
    }
}

fn refused(excess: Excess, settings: &QuotaSettings) -> ApiError {
    let (code, detail) = match excess {
        Excess::Rate => (
            code::RATE_LIMITED,
            "more requests than one party may send in a second".to_owned(),
        ),
        Excess::AtOnce => (
            code::QUOTA_REQUESTS,
            format!(
                "{} requests at once for one account",
                settings.requests_at_once
            ),
        ),
        Excess::Streams => (
            code::QUOTA_STREAMS,
            format!("{} streams for one account", settings.streams),
        ),
    };
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
}

/// Middleware that counts every request to its address.
pub async fn of_address(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(PeerAddress(address)) = request.extensions().get().copied() else {
        return next.run(request).await;
    };
    let party = Party::Address(client_of(address));
    answer(&app.quotas, party, next.run(request)).await
}

/// Handles a request of an account within its quotas.
pub async fn of_account(
    app: &App,
    account: &Id,
    request: impl Future<Output = Response>,
) -> Response {
    answer(&app.quotas, Party::Account(account.clone()), request).await
}

async fn answer(
    quotas: &Quotas,
    party: Party,
    request: impl Future<Output = Response>,
) -> Response {
    let active = match quotas.begin(party) {
        Ok(active) => active,
        Err(excess) => return refused(excess, &quotas.settings).into_response(),
    };
    if !active.is_in_rate {
        tokio::time::sleep(REFUSAL_PAUSE).await;
        return refused(Excess::Rate, &quotas.settings).into_response();
    }
    let response = request.await;
    response.map(|body| {
        Body::new(CountedBody {
            body,
            charge: move |bytes| active.quotas.charge(&active.party, bytes),
            pause: None,
        })
    })
}

/// The part of an address that stands for one client.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => {
                let mask = u128::MAX << (128 - IPV6_CLIENT_BITS);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        },
    }
}

/// A body whose bytes are counted and delayed beyond their rate.
struct CountedBody<C> {
    body: Body,
    /// Counts bytes; returns how long the next ones have to wait.
    charge: C,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<C: Fn(usize) -> Duration + Unpin> HttpBody for CountedBody<C> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let wait = (self.charge)(data.len());
            if !wait.is_zero() {
                self.pause = Some(Box::pin(tokio::time::sleep(wait)));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
