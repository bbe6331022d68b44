//! TLS to nodes: which keys a node may show, and how a client learns of new ones.
//!
//! A node shows its ledger key. A client accepts the one that its address pins
//! (`https://host:port#KEY`), or else those of the newest validators that it has proven. A client
//! that was away while all validators it knows were replaced asks the node for the changes over a
//! connection whose key it does not know yet: what it gets proves itself, from the validators that
//! it trusts on, and neither token nor anything else is sent there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use lamplighter_tls::{SetupError, pinned_client};
use lamplighter_types::PublicKey;
use reqwest::Url;
use tokio::time::Instant;

use crate::calls::{ANSWER_BYTES_MAX, Call, Node, problem, read_body};
use crate::error::ClientError;
use crate::trust::{TrustAnchor, verify_path};
use crate::{Client, ClientConfig};

/// The keys that a node may show.
#[derive(Clone, Debug)]
pub(crate) struct NodeKeys {
    /// The only one, if the address names it.
    pinned: Option<PublicKey>,
    anchor: Option<Arc<TrustAnchor>>,
}

impl NodeKeys {
    /// True if a node with this key may be talked to now: a validator that was removed may not.
    fn accept(&self, key: &PublicKey) -> bool {
        match (self.pinned, &self.anchor) {
            (Some(pinned), _) => pinned == *key,
            (None, Some(anchor)) => anchor
                .current()
                .set
                .validators
                .iter()
                .any(|v| v.key == *key),
            (None, None) => false,
        }
    }

    /// True if other keys may become acceptable.
    fn may_change(&self) -> bool {
        self.pinned.is_none() && self.anchor.is_some()
    }
}

/// The address of a node, without fragment and without a slash at its end, and the key that its
/// fragment pins.
pub(crate) fn parse_address(
    url: &str,
    config: &ClientConfig,
) -> Result<(String, NodeKeys), ClientError> {
    let malformed = || ClientError::Address(url.to_owned());
    let mut parsed = Url::parse(url).map_err(|_| malformed())?;
    let host = parsed.host_str().ok_or_else(malformed)?;
    let pinned = match parsed.fragment() {
        Some(key) => Some(key.parse().map_err(|_| malformed())?),
        None => None,
    };
    let keys = NodeKeys {
        pinned,
        anchor: config.trust.clone(),
    };
    match parsed.scheme() {
        "https" => {
            let known = pinned.is_some() || config.trust.is_some();
            if !known && config.authorities.is_none() {
                return Err(ClientError::NoNodeKeys(url.to_owned()));
            }
        }
        "http" if config.plain_http_beyond_loopback || is_loopback(host) => {}
        "http" => return Err(ClientError::PlainAddress(url.to_owned())),
        _ => return Err(malformed()),
    }
    parsed.set_fragment(None);
    let text = url.split('#').next().unwrap_or(url);
    Ok((text.trim_end_matches('/').to_owned(), keys))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The HTTP client for one node.
pub(crate) fn http_client(
    keys: NodeKeys,
    config: &ClientConfig,
) -> Result<reqwest::Client, ClientError> {
    let authorities = config.authorities.as_deref();
    let tls = pinned_client(None, move |key| keys.accept(key), authorities);
    builder(tls, config)
}

/// A bare HTTP client, for requests that [`Client`] does not make: it connects to nodes with these
/// keys, and to `http://` addresses.
///
/// # Errors
/// It can't be set up.
pub fn http_client_of(
    keys: impl IntoIterator<Item = PublicKey>,
) -> Result<reqwest::Client, ClientError> {
    let keys: BTreeSet<PublicKey> = keys.into_iter().collect();
    let tls = pinned_client(None, move |key| keys.contains(key), None);
    builder(tls, &ClientConfig::new(Vec::new()))
}

fn builder(
    tls: Result<rustls::ClientConfig, SetupError>,
    config: &ClientConfig,
) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.map_err(ClientError::Tls)?)
        .connect_timeout(config.connect_timeout)
        // A redirect would lead to where no key is pinned.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(ClientError::Setup)
}

/// The reason in a failed attempt that concerns TLS, if one does.
enum TlsFailure {
    /// The key or certificate of the node is not an accepted one.
    Certificate,
    /// What the node sent is not TLS.
    NoTls,
}

fn tls_failure(error: &reqwest::Error) -> Option<TlsFailure> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // An I/O error does not show what it wraps as its source.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref());
        let found = wrapped
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        match found {
            Some(rustls::Error::InvalidCertificate(_)) => return Some(TlsFailure::Certificate),
            Some(rustls::Error::InvalidMessage(_)) => return Some(TlsFailure::NoTls),
            _ => cause = wrapped.map(|inner| inner as _).or_else(|| error.source()),
        }
    }
    None
}

impl Client {
    /// The error of an attempt, with its reason if that is TLS.
    pub(crate) fn transport_error(node: &Node, source: reqwest::Error) -> ClientError {
        let node = node.url.clone();
        match tls_failure(&source) {
            Some(TlsFailure::Certificate) => ClientError::NodeKey { node, source },
            Some(TlsFailure::NoTls) => ClientError::NotTls { node, source },
            None => ClientError::Transport { node, source },
        }
    }

    /// Learns the newest validators from a node whose key is not known; true if there are newer
    /// ones than before.
    pub(crate) async fn learn_node_keys(&self, index: usize, until: Instant) -> bool {
        let node = &self.inner.nodes.list[index];
        if !node.keys.may_change() {
            return false;
        }
        match self.fetch_validators(node, until).await {
            Ok(learned) => learned,
            Err(error) => {
                tracing::debug!(%error, "a node with an unknown key proved no validators");
                false
            }
        }
    }

    async fn fetch_validators(&self, node: &Node, until: Instant) -> Result<bool, ClientError> {
        let config = &self.inner.config;
        let unpinned = builder(pinned_client(None, |_| true, None), config)?;
        let before = self.trust_anchor()?.current().height;
        let mut reached = before;
        loop {
            let path = format!("/v1/proofs/validators?trusted={reached}");
            let call = Call::get(path);
            let timeout = until.saturating_duration_since(Instant::now());
            let request = unpinned
                .get(format!("{}{}", node.url, call.path))
                .timeout(timeout);
            let sent = request.send().await;
            let response = sent.map_err(|error| Self::transport_error(node, error))?;
            let silence_max = until.saturating_duration_since(Instant::now());
            let answer = read_body(&node.url, response, ANSWER_BYTES_MAX, silence_max).await?;
            if !answer.status.is_success() {
                return Err(problem(&answer));
            }
            let (next, more) = verify_path(self.trust_anchor()?.clone(), answer).await?;
            if !more || next.height <= reached {
                return Ok(next.height > before);
            }
            reached = next.height;
        }
    }
}
