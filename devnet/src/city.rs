//! The accounts of the demonstration: people, validators, gateways and Things with their keys.

use std::collections::BTreeMap;
use std::path::Path;

use lamplighter_node::key;
use lamplighter_types::{
    GENESIS_VERSION, Genesis, GenesisAccount, Grant, Id, KeyPurpose, Policies, Role, Scope,
    SecretKey, Signature, Validator, ValidatorSet,
};

use crate::DevnetError;

/// Accounts of the genesis file: id, display name, role.
const PEOPLE: [(&str, &str, Role); 8] = [
    ("admin-1", "Administrator One", Role::Administrator),
    ("admin-2", "Administrator Two", Role::Administrator),
    ("operator", "Operator of the lighting", Role::Operator),
    ("approver-1", "Approver One", Role::Approver),
    ("approver-2", "Approver Two", Role::Approver),
    ("vendor", "Maker of the lamps", Role::Vendor),
    ("security", "Security officer", Role::Security),
    ("auditor", "Auditor", Role::Auditor),
];

/// An account with its key.
#[derive(Clone, Debug)]
pub struct Member {
    pub account: Id,
    pub secret: SecretKey,
}

/// All keys, and the genesis document.
#[derive(Debug)]
pub struct City {
    pub genesis: Genesis,
    members: BTreeMap<String, Member>,
}

/// The id with this name, which must be valid.
pub(crate) fn id(text: &str) -> Id {
    Id::new(text).expect("names of the devnet are ids")
}

pub(crate) fn district(text: &str) -> Scope {
    Scope::new(text).expect("districts of the devnet are paths of ids")
}

impl City {
    /// Generates keys, in files of the folder `keys`, and the genesis document of validators at the
    /// given addresses.
    pub fn create(keys: &Path, addresses: &[String], created_ms: u64) -> Result<Self, DevnetError> {
        let mut members = BTreeMap::new();
        let mut new = |name: &str| -> Result<SecretKey, DevnetError> {
            let secret = key::generate()?;
            key::write(&keys.join(format!("{name}.key")), &secret)?;
            let member = Member {
                account: id(name),
                secret: secret.clone(),
            };
            members.insert(name.to_owned(), member);
            Ok(secret)
        };
        let mut accounts = Vec::new();
        for (account, name, role) in PEOPLE {
            accounts.push(GenesisAccount {
                account: id(account),
                name: name.to_owned(),
                key: new(account)?.public(),
                grants: vec![Grant::founding(role, Scope::city())],
            });
        }
        let mut validators = Vec::new();
        for (node, address) in (1..).zip(addresses) {
            let name = format!("node-{node}");
            let (key, address) = (new(&name)?.public(), address.clone());
            validators.push(Validator {
                node,
                account: id(&name),
                key,
                address,
            });
        }
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "Devnet City".to_owned(),
            created_ms,
            validators: ValidatorSet { validators },
            organization: id("city"),
            accounts,
            // Nobody waits a day in a demonstration.
            policies: Policies {
                newcomer_wait_ms: 0,
                ..Policies::default()
            },
        };
        Ok(Self { genesis, members })
    }

    /// Generates the key of one more account, gateway or Thing; a transaction registers it.
    pub fn add_key(&mut self, keys: &Path, name: &str) -> Result<Member, DevnetError> {
        let secret = key::generate()?;
        key::write(&keys.join(format!("{name}.key")), &secret)?;
        let member = Member {
            account: id(name),
            secret,
        };
        self.members.insert(name.to_owned(), member.clone());
        Ok(member)
    }

    /// The proof with which a member is registered as a user or a gateway.
    pub fn proof(&self, member: &Member) -> Signature {
        let Member { account, secret } = member;
        secret.prove(KeyPurpose::Account, &self.genesis.chain_id(), account)
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> &Member {
        self.members
            .get(name)
            .expect("the devnet made a key of this name")
    }
}
