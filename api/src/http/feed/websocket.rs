//! `/v1/feed/ws`: the feed over a WebSocket (RFC 6455), for browsers and proxies that have no
//! server-sent events with headers. The same query, order and cursors; each message is JSON.

use std::pin::pin;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::reader::{FeedMessage, FeedReader};
use super::{FeedQuery, cursor_ahead, open};
use crate::http::error::{ApiError, Problem, code};
use crate::http::extract::Query;
use crate::http::{App, auth};
use crate::rights::Rights;
use crate::token::Bearer;

/// The protocol that this endpoint speaks.
const PROTOCOL: &str = "lamplighter.feed.1";
/// Beginning of the protocol in which a browser, which can set no header, offers its token.
const TOKEN_PREFIX: &str = "bearer.";
/// Interval of pings, which also keep an idle connection open through proxies.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A client that answers no ping for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A client has so long to take what was written; one that does not read is cut.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A client has so long to take the reason why it is closed; a node that stops waits for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A client sends nothing but control frames.
const RECEIVED_BYTES_MAX: usize = 1_024;

/// The token that a WebSocket request offers as a protocol.
pub fn offered_token(headers: &HeaderMap) -> Option<&str> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    offered_protocols(headers).find_map(|protocol| protocol.strip_prefix(TOKEN_PREFIX))
}

fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim))
}

/// The feed over a WebSocket: each text message is a `FeedMessage`. The first one has the cursor
/// alone; cursors without data follow while no notification passes the filter. The client sends
/// nothing.
///
/// A browser offers the protocols `lamplighter.feed.1` and `bearer.TOKEN`; others may send
/// `Authorization`. A page of another origin is refused unless the node is configured for it.
#[utoipa::path(get, path = "/v1/feed/ws", tag = "feed", params(FeedQuery),
    responses((status = 101, description = "Each message is a `FeedMessage`.",
            body = FeedMessage),
        (status = 400, description = "Not a request for a WebSocket.", body = Problem),
        (status = 403, description = "A page of another origin.", body = Problem),
        (status = 409, description = "The cursor is ahead of this ledger.", body = Problem),
        (status = 503, body = Problem)))]
pub async fn feed_over_websocket(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<FeedQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    require_origin(&app, &parts.headers)?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|e| ApiError::invalid(code::WEBSOCKET, e.body_text()))?;
    let reader = match open(&app, (bearer.as_deref(), &rights), query, &parts.headers)? {
        Ok(reader) => reader,
        Err(ahead) => return Ok(cursor_ahead(ahead)),
    };
    let reading = (bearer.map(|Extension(bearer)| bearer), rights);
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(RECEIVED_BYTES_MAX)
        .max_frame_size(RECEIVED_BYTES_MAX)
        .on_failed_upgrade(|error| tracing::debug!(%error, "a WebSocket was not opened"));
    // The node waits for it when it stops.
    let task = app.tasks.token();
    let serve = move |socket| async move {
        serve(socket, reader, app, reading).await;
        drop(task);
    };
    Ok(upgrade.on_upgrade(serve).into_response())
}

/// Refuses the pages of other origins: a browser sends their requests with whatever the network
/// lets it reach.
fn require_origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let Some(origin) = text(header::ORIGIN) else {
        return Ok(());
    };
    let is_same = text(header::HOST).is_some_and(|host| {
        let rest = origin.split_once("://").map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    });
    if is_same || app.settings.cors_origins.iter().any(|o| o == origin) {
        return Ok(());
    }
    let detail = format!("this node does not serve pages of {origin}: see http.cors_origins");
    Err(ApiError::new(StatusCode::FORBIDDEN, code::ORIGIN, detail))
}

/// Sends the feed until the client, its token or the node ends.
async fn serve(
    mut socket: WebSocket,
    reader: FeedReader,
    app: App,
    (bearer, rights): (Option<Bearer>, Rights),
) {
    let stop = app.stop.clone();
    let revoked = auth::revoked(app, bearer, rights);
    let (code, reason) = tokio::select! {
        end = exchange(&mut socket, reader) => match end {
            Some(end) => end,
            None => return,
        },
        () = stop.cancelled() => (close_code::AWAY, "the node stops"),
        () = revoked => (close_code::POLICY, "the token has ended"),
    };
    let close = Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }));
    if timeout(CLOSE_TIMEOUT, socket.send(close)).await.is_err() {
        tracing::debug!("a WebSocket was cut while it was closed");
    }
}

/// Exchanges messages with the client; returns why the connection is closed, nothing if it is
/// broken or cut.
async fn exchange(socket: &mut WebSocket, reader: FeedReader) -> Option<(u16, &'static str)> {
    let mut messages = pin!(reader.into_messages());
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut received_at = Instant::now();
    loop {
        tokio::select! {
            received = socket.recv() => match received? {
                Ok(Message::Ping(_) | Message::Pong(_)) => received_at = Instant::now(),
                Ok(Message::Close(_)) => return Some((close_code::NORMAL, "")),
                Ok(Message::Text(_) | Message::Binary(_)) => {
                    return Some((close_code::UNSUPPORTED, "this feed reads no messages"));
                }
                Err(error) => {
                    tracing::debug!(%error, "a WebSocket ended");
                    return None;
                }
            },
            _ = pings.tick() => {
                if received_at.elapsed() > SILENCE_MAX {
                    return None;
                }
                send(socket, Message::Ping(Vec::new().into())).await?;
            }
            next = messages.next() => {
                let Some(messages) = next else {
                    return Some((close_code::ERROR, "the feed can't be read"));
                };
                for message in messages {
                    send(socket, text(&message)).await?;
                }
            }
        }
    }
}

fn text(message: &FeedMessage) -> Message {
    let json = serde_json::to_string(message).expect("our types have JSON forms");
    Message::Text(json.into())
}

/// Sends one message; nothing if the client does not read.
async fn send(socket: &mut WebSocket, message: Message) -> Option<()> {
    match timeout(WRITE_TIMEOUT, socket.send(message)).await {
        Ok(sent) => sent.ok(),
        Err(_) => {
            tracing::debug!("a WebSocket is cut: its client does not read");
            None
        }
    }
}
