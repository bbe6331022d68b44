//! The contexts in use, by the sender ids of the Things, with what changes in them. A context is
//! made from the file of keys when a Thing first uses it, and ends when its key is not there any
//! more.

use std::collections::HashMap;
use std::sync::Arc;

use rand::RngCore;

use super::context::{RequestBinding, SecurityContext, TAG_BYTES};
use super::message::protect;
use super::numbers::STEP;
use super::option::{OscoreOption, PartialIv};
use super::replay::ReplayWindow;
use crate::coap::Overhead;
use crate::coap::message::{Code, DecodeError, Message};
use crate::credentials::{CredentialStore, OscoreCredential};

/// Bytes of a value that a request repeats to show that it is fresh.
const CHALLENGE_BYTES: usize = 8;
/// Bytes of the option Observe outside, in a request to begin or to end.
const OUTER_OBSERVE_BYTES: usize = 2;

/// A context with what changes in it.
pub(super) struct Context {
    pub(super) credential: Arc<OscoreCredential>,
    pub(super) security: SecurityContext,
    /// The next number of this side.
    next: u64,
    /// None since the start, until a request is known to be newer than it.
    pub(super) window: Option<ReplayWindow>,
    pub(super) challenge: [u8; CHALLENGE_BYTES],
}

impl Context {
    /// What a request of this side with this number, and its response, are bound to.
    pub(super) fn binding(&self, partial_iv: PartialIv) -> RequestBinding {
        RequestBinding {
            kid: self.security.sender_id().to_vec(),
            partial_iv,
        }
    }

    /// Protects a request.
    pub(super) fn request(&self, message: &Message, partial_iv: PartialIv) -> Option<Vec<u8>> {
        let binding = self.binding(partial_iv);
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            kid_context: self.security.id_context().map(<[u8]>::to_vec),
            kid: Some(binding.kid.clone()),
        };
        let nonce = self.security.sender_nonce(&partial_iv);
        encoded(protect(&self.security, message, &option, &nonce, &binding))
    }

    /// Protects a response. It has a number of its own, also where that of the request would do:
    /// a response that is made twice never has one nonce for two contents.
    pub(super) fn response(
        &self,
        message: &Message,
        partial_iv: PartialIv,
        binding: &RequestBinding,
    ) -> Option<Vec<u8>> {
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            ..OscoreOption::default()
        };
        let nonce = self.security.sender_nonce(&partial_iv);
        encoded(protect(&self.security, message, &option, &nonce, binding))
    }

    /// What is added to a message with this code.
    pub(super) fn overhead(&self, code: Code) -> Overhead {
        if code == Code::EMPTY {
            return Overhead::default();
        }
        // The tag, the code, which moves inside, and the first byte of the option.
        let always = TAG_BYTES + 1 + 1;
        // The marker before a ciphertext without payload, and flags and number of the option.
        let sent = always + 1 + 1 + PartialIv::BYTES_MAX;
        if !code.is_request() {
            let received = always;
            return Overhead { received, sent };
        }
        let id_context = self.security.id_context();
        let id_context = id_context.map_or(0, |context| 1 + context.len());
        let id = self.security.sender_id().len();
        Overhead {
            // Flags, the shortest number and the id.
            received: always + 1 + 1 + self.credential.keys.thing_id.len(),
            // The option is long enough for a second byte before it.
            sent: sent + 1 + id_context + id + OUTER_OBSERVE_BYTES,
        }
    }
}

fn encoded(message: Result<Message, DecodeError>) -> Option<Vec<u8>> {
    match message.and_then(|message| message.encode()) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::warn!(%error, "a message is too long to be protected");
            None
        }
    }
}

/// All contexts in use.
pub(super) struct Contexts {
    credentials: CredentialStore,
    generation: u64,
    by_thing_id: HashMap<Vec<u8>, Context>,
    /// No context has used a number from here on.
    unused: u64,
    /// Numbers below this one may be used.
    ceiling: u64,
}

impl Contexts {
    /// Contexts that begin at `start`; no number is given out before [`Self::raise`].
    pub(super) fn new(credentials: CredentialStore, start: u64) -> Contexts {
        Contexts {
            generation: credentials.generation(),
            credentials,
            by_thing_id: HashMap::new(),
            unused: start,
            ceiling: start,
        }
    }

    /// The ceiling that has to be durable next.
    pub(super) fn next_ceiling(&self) -> u64 {
        self.ceiling + STEP
    }

    /// Allows the numbers below a ceiling that is durable.
    pub(super) fn raise(&mut self, ceiling: u64) {
        self.ceiling = self.ceiling.max(ceiling);
    }

    /// A context that was used before.
    pub(super) fn get(&self, thing_id: &[u8]) -> Option<&Context> {
        self.by_thing_id.get(thing_id)
    }

    /// The context of a Thing's sender id, made if it is not in use. A Thing may send its id
    /// context with it, which must be that of the file.
    pub(super) fn find(
        &mut self,
        thing_id: &[u8],
        id_context: Option<&[u8]>,
    ) -> Option<&mut Context> {
        if !self.by_thing_id.contains_key(thing_id) {
            let credential = self.credentials.find_oscore(thing_id)?;
            let mut challenge = [0; CHALLENGE_BYTES];
            rand::rng().fill_bytes(&mut challenge);
            let context = Context {
                security: SecurityContext::derive(&credential.keys),
                credential,
                // Above all that a context with the same key may have used before this one.
                next: self.unused,
                window: None,
                challenge,
            };
            self.by_thing_id.insert(thing_id.to_vec(), context);
        }
        let context = self.by_thing_id.get_mut(thing_id)?;
        let same = id_context.is_none() || id_context == context.security.id_context();
        same.then_some(context)
    }

    /// Takes the next number of a context; `None` if none is allowed.
    pub(super) fn next_number(&mut self, thing_id: &[u8]) -> Option<PartialIv> {
        let context = self.by_thing_id.get_mut(thing_id)?;
        if context.next >= self.ceiling {
            return None;
        }
        let Some(number) = PartialIv::new(context.next) else {
            let device = &context.credential.holder.device;
            tracing::error!(%device, "all numbers of an OSCORE context are used; replace its key");
            return None;
        };
        context.next += 1;
        self.unused = self.unused.max(context.next);
        Some(number)
    }

    /// Takes out the contexts whose keys are not in the file any more, by the ids of the Things.
    pub(super) fn take_revoked(&mut self) -> Vec<(Vec<u8>, Context)> {
        let generation = self.credentials.generation();
        if std::mem::replace(&mut self.generation, generation) == generation {
            return Vec::new();
        }
        let store = &self.credentials;
        let is_revoked = |id: &Vec<u8>, context: &mut Context| {
            store.find_oscore(id).as_ref() != Some(&context.credential)
        };
        self.by_thing_id.extract_if(is_revoked).collect()
    }
}
