//! Tokens: shown with every read, asked for when a node says that it wants one.

use lamplighter_types::login::{Audience, Challenge, ChallengeRequest, Token, TokenRequest};
use reqwest::Method;
use tokio::time::Instant;

use crate::calls::{ANSWER_BYTES_MAX, Answer, Call, problem, read_body};
use crate::error::ClientError;
use crate::{Client, Status};

impl Client {
    /// A token of the node at `urls[index]`, e.g. as the password of an MQTT connection to it.
    ///
    /// # Errors
    /// The client has no key or no such node, or the node gave none within the deadline.
    pub async fn token(&self, index: usize, audience: Audience) -> Result<Token, ClientError> {
        let until = Instant::now() + self.inner.config.deadline;
        self.ask_token(index, audience, until).await
    }

    /// Gets the token that reads are shown with.
    pub(crate) async fn log_in(&self, index: usize, until: Instant) -> Result<(), ClientError> {
        let token = self.ask_token(index, Audience::HttpRead, until).await?;
        self.inner.nodes.list[index].set_token(Some(token));
        Ok(())
    }

    async fn ask_token(
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
        let who = ChallengeRequest {
            account: signer.account.clone(),
            key: signer.secret.public(),
        };
        let ask = Call::new(Method::POST, "/v1/auth/challenge").json(&who);
        let given: Challenge = self.once(index, &ask, until).await?.json()?;
        let (account, secret) = (&signer.account, &signer.secret);
        let answer = TokenRequest::sign(&chain_id, account, audience, &given, secret);
        let ask = Call::new(Method::POST, "/v1/auth/token").json(&answer);
        self.once(index, &ask, until).await?.json()
    }

    /// The status needs no token.
    async fn status_of(&self, index: usize, until: Instant) -> Result<Status, ClientError> {
        self.once(index, &Call::get("/v1/status"), until)
            .await?
            .json()
    }

    /// One attempt at one node, without logging in.
    pub(crate) async fn once(
        &self,
        index: usize,
        call: &Call,
        until: Instant,
    ) -> Result<Answer, ClientError> {
        let response = self.open(index, call, Some(until)).await?;
        let node = &self.inner.nodes.list[index].url;
        let answer = read_body(node, response, ANSWER_BYTES_MAX).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(problem(&answer)),
        }
    }
}
