//! The registry on the state of the ledger: its action, its queries, and the link of a registrant.

use lamplighter_state::{Overlay, StateError, View};
use lamplighter_types::{Fact, HexBytes, Id, Notification, RegistrantLink, Role, Scope};

use super::{Records, Registered, RegistryError, RegistryFailure, invoke as invoke_on, query};
use crate::devices::{DevicesError, keys};
use crate::{Context, ExecutionError, Reader, users};

/// The registry's records in the state.
struct InOverlay<'a>(&'a mut Overlay);

impl Records for InOverlay<'_> {
    type Error = StateError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(&keys::iotregistry(key))?.map(|record| record.0))
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StateError> {
        self.0.put(&keys::iotregistry(&key), &HexBytes(value));
        Ok(())
    }
}

/// The registry's records for queries, which write nothing.
struct ReadOnly<'a, R>(&'a R);

impl<R: Reader> Records for ReadOnly<'_, R> {
    type Error = StateError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(&keys::iotregistry(key))?.map(|record| record.0))
    }

    fn put(&mut self, _key: Vec<u8>, _value: Vec<u8>) -> Result<(), StateError> {
        Err(StateError::Missing {
            what: "an overlay to write the registry's records to".into(),
        })
    }
}

/// Answers an IOTRegistry query: `owner`, `thing` or `spec`, with the original's JSON.
///
/// # Errors
/// [`RegistryFailure::Refused`] when there is no such query or record, [`RegistryFailure::Records`]
/// when the state can't be read.
pub fn iotregistry_query(
    reader: &impl Reader,
    function: &str,
    argument: &str,
) -> Result<String, RegistryFailure<StateError>> {
    query(function, argument, &ReadOnly(reader))
}

/// Tells whether an IOTRegistry operation would succeed on a state, which it leaves as it is.
///
/// # Errors
/// [`RegistryFailure::Refused`] when the operation breaks a rule, [`RegistryFailure::Records`] when
/// the state can't be read.
pub fn iotregistry_check(
    state: View,
    function: &str,
    argument: &str,
) -> Result<(), RegistryFailure<StateError>> {
    let mut overlay = Overlay::new(state);
    invoke_on(function, argument, &mut InOverlay(&mut overlay)).map(|_| ())
}

fn ended(failure: RegistryFailure<StateError>) -> ExecutionError {
    match failure {
        RegistryFailure::Refused(refusal) => refusal.into(),
        RegistryFailure::Records(error) => error.into(),
    }
}

pub(in crate::devices) fn invoke(
    overlay: &mut Overlay,
    context: &Context,
    function: &str,
    argument: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    if !context.sender.has_role(Role::Administrator, &Scope::city()) {
        context.require(Role::Relay, &Scope::city())?;
    }
    let registered = invoke_on(function, argument, &mut InOverlay(overlay)).map_err(ended)?;
    let fact = match registered {
        Registered::Registrant { pubkey, name: _ } => {
            Fact::RegistrantCreated { registrant: pubkey }
        }
        Registered::Thing {
            nonce,
            aliases: _,
            registrant: _,
        } => Fact::ThingRegistered { nonce },
        Registered::Spec {
            name,
            registrant: _,
        } => Fact::SpecRegistered { spec: name },
    };
    Ok(vec![Notification::city(fact)])
}

pub(in crate::devices) fn link(
    overlay: &mut Overlay,
    context: &Context,
    registrant: &str,
    organization: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Administrator, &Scope::city())?;
    if !overlay.exists(&users::keys::organization(organization))? {
        return Err(DevicesError::UnknownOrganization(organization.clone()).into());
    }
    match iotregistry_query(overlay, "owner", registrant) {
        Ok(_) => {}
        Err(RegistryFailure::Refused(RegistryError::NotFound)) => {
            return Err(DevicesError::UnknownRegistrant(registrant.to_owned()).into());
        }
        Err(failure) => return Err(ended(failure)),
    }
    let link = RegistrantLink {
        organization: organization.clone(),
    };
    overlay.put(&keys::registrant_link(registrant), &link);
    let (registrant, organization) = (registrant.to_owned(), organization.clone());
    Ok(vec![Notification::city(Fact::RegistrantLinked {
        registrant,
        organization,
    })])
}
