//! The sessions of an account. Each belongs to one node, so that all nodes are asked.

use lamplighter_types::login::{EndedSessions, LoginSession, LoginSessions};
use lamplighter_types::{Id, SessionId};
use reqwest::Method;

use crate::Client;
use crate::calls::Call;
use crate::error::ClientError;

const PATH: &str = "/v1/auth/sessions";

/// How many sessions a node ended, or why it is not known.
#[derive(Debug)]
pub struct EndedAt {
    /// The address of the node.
    pub node: String,
    pub ended: Result<u64, ClientError>,
}

fn of(path: &str, account: Option<&Id>) -> String {
    account.map_or_else(
        || path.to_owned(),
        |account| format!("{path}?account={account}"),
    )
}

impl Client {
    /// The sessions of an account at each node that answers; of this client's account without one.
    ///
    /// # Errors
    /// A node refused the question, or none answered.
    pub async fn sessions(
        &self,
        account: Option<&Id>,
    ) -> Result<Vec<(String, LoginSession)>, ClientError> {
        let (mut found, mut answered) = (Vec::new(), false);
        let mut last = ClientError::NoAddress;
        for index in self.inner.nodes.in_turn() {
            match self.call_node(index, Call::get(of(PATH, account))).await {
                Ok(answer) => {
                    let LoginSessions { items } = answer.json()?;
                    found.extend(items.into_iter().map(|item| (answer.node.clone(), item)));
                    answered = true;
                }
                Err(error) if error.is_transient() => last = error,
                Err(error) => return Err(error),
            }
        }
        if answered { Ok(found) } else { Err(last) }
    }

    /// Ends a session at the node that has it. False if no node has it.
    ///
    /// # Errors
    /// A node refused it, or none that has it answered and another did not answer.
    pub async fn end_session(
        &self,
        session: &SessionId,
        account: Option<&Id>,
    ) -> Result<bool, ClientError> {
        let mut last = None;
        for index in self.inner.nodes.in_turn() {
            let call = Call::new(Method::DELETE, of(&format!("{PATH}/{session}"), account));
            match self.call_node(index, call).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_transient() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        last.map_or(Ok(false), Err)
    }

    /// Ends all sessions of an account but this client's own, at every node. What became of it is
    /// said for each node: at one that does not answer they go on until their tokens expire.
    pub async fn end_sessions(&self, account: Option<&Id>) -> Vec<EndedAt> {
        let mut all = Vec::new();
        for index in self.inner.nodes.in_turn() {
            let call = Call::new(Method::DELETE, of(PATH, account));
            let answer = self.call_node(index, call).await;
            let ended = answer.and_then(|answer| answer.json::<EndedSessions>());
            all.push(EndedAt {
                node: self.inner.nodes.list[index].url.clone(),
                ended: ended.map(|sessions| sessions.ended),
            });
        }
        all
    }
}
