//! Tokens: sent with every read, requested when a node asks for one.

use lamplighter_types::login::{Audience, Challenge, ChallengeRequest, Token, TokenRequest};
use lamplighter_types::wire::Status;
use reqwest::Method;
use tokio::time::Instant;

use crate::Client;
use crate::calls::{ANSWER_BYTES_MAX, Call, NodeResponse, problem, read_body};
use crate::error::ClientError;

impl Client {
    /// A token of the node at `urls[index]`, e.g. as the password of an MQTT connection to it.
    ///
    /// # Errors
    /// The client has no key or no such node, or the node gave none within the deadline.
    pub async fn token(&self, index: usize, audience: Audience) -> Result<Token, ClientError> {
        let until = Instant::now() + self.inner.config.deadline;
        self.request_token(index, audience, until).await
    }

    /// Gets the token that is sent with reads.
    pub(crate) async fn log_in(&self, index: usize, until: Instant) -> Result<(), ClientError> {
        let token = self.request_token(index, Audience::HttpRead, until).await?;
        self.inner.nodes.list[index].set_token(Some(token));
        Ok(())
    }

    async fn request_token(
        &self,
        index: usize,
        audience: Audience,
        until: Instant,
    ) -> Result<Token, ClientError> {
        if index >= self.inner.nodes.list.len() {
            return Err(ClientError::NoAddress);
        }
        let signer = self.signer()?;
        let chain_id = match self.inner.chain_id.get() {
            Some(chain_id) => *chain_id,
            None => self.status_of(index, until).await?.chain_id,
        };
        let request = ChallengeRequest {
            account: signer.account.clone(),
            key: signer.secret.public(),
        };
        let call = Call::new(Method::POST, "/v1/auth/challenge").json(&request);
        let answer = self.attempt_without_login(index, &call, until).await?;
        let challenge: Challenge = answer.json()?;
        let (account, secret) = (&signer.account, &signer.secret);
        let request = TokenRequest::sign(&chain_id, account, audience, &challenge, secret);
        let call = Call::new(Method::POST, "/v1/auth/token").json(&request);
        self.attempt_without_login(index, &call, until)
            .await?
            .json()
    }

    /// The status of one node, which needs no token.
    async fn status_of(&self, index: usize, until: Instant) -> Result<Status, ClientError> {
        let call = Call::get("/v1/status");
        self.attempt_without_login(index, &call, until)
            .await?
            .json()
    }

    async fn attempt_without_login(
        &self,
        index: usize,
        call: &Call,
        until: Instant,
    ) -> Result<NodeResponse, ClientError> {
        let response = self.open(index, call, Some(until)).await?;
        let node = &self.inner.nodes.list[index].url;
        let silence_max = until.saturating_duration_since(Instant::now());
        let answer = read_body(node, response, ANSWER_BYTES_MAX, silence_max).await?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(problem(&answer))
        }
    }
}
