//! Descriptions of a new ledger (TOML): a party file has the validator and the first administrator
//! of one party, another file may have the rest.

use std::error::Error;
use std::path::{Path, PathBuf};

use lamplighter_system::{files, unix_ms};
use lamplighter_types::{
    GENESIS_VERSION, Genesis, GenesisAccount, Hash, Id, KeyPurpose, Policies, PublicKey, SecretKey,
    Signature, Validator, ValidatorSet, codec,
};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::keys::grant;
use crate::output;

/// What the proofs in a description are made for. They name no ledger, since it does not exist
/// yet, and prove nothing to one.
const FOUNDING: &str = "an entry of a new ledger";

/// A file of a description.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<Id>,
    #[serde(default)]
    pub validators: Vec<Founder>,
    #[serde(default)]
    pub accounts: Vec<First>,
    /// The part of the policies that is not as by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<toml::Table>,
}

/// A validator of the new ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    node: u64,
    account: Id,
    key: PublicKey,
    address: String,
    /// The signature of the key under this entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Signature>,
}

/// A first account of the new ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct First {
    account: Id,
    name: String,
    key: PublicKey,
    grants: Vec<String>,
    /// The signature of the key under this entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Signature>,
}

/// The digest of an entry; its key signs it, so that nobody changes the entry on its way.
fn statement<T: Serialize>(entry: &T) -> Hash {
    codec::digest(&(FOUNDING, entry))
}

impl Founder {
    /// The entry of a node, signed.
    pub fn new(secret: &SecretKey, node: u64, account: Id, address: String) -> Self {
        let mut founder = Self {
            node,
            account,
            key: secret.public(),
            address,
            proof: None,
        };
        let digest = statement(&founder.validator());
        founder.proof = Some(secret.prove(KeyPurpose::Node, &digest, &founder.account));
        founder
    }

    fn validator(&self) -> Validator {
        let Self {
            node,
            account,
            key,
            address,
            proof: _,
        } = self;
        Validator {
            node: *node,
            account: account.clone(),
            key: *key,
            address: address.clone(),
        }
    }
}

impl First {
    /// The entry of an account, signed.
    pub fn new(
        secret: &SecretKey,
        account: Id,
        name: String,
        grants: Vec<String>,
    ) -> Result<Self, Failure> {
        let mut first = Self {
            account,
            name,
            key: secret.public(),
            grants,
            proof: None,
        };
        let digest = statement(&first.account()?);
        first.proof = Some(secret.prove(KeyPurpose::Account, &digest, &first.account));
        Ok(first)
    }

    fn account(&self) -> Result<GenesisAccount, Failure> {
        let Self {
            account,
            name,
            key,
            grants,
            proof: _,
        } = self;
        let grants = grants.iter().map(|text| grant(text));
        Ok(GenesisAccount {
            account: account.clone(),
            name: name.clone(),
            key: *key,
            grants: grants.collect::<Result<_, _>>()?,
        })
    }
}

/// An entry changed since its party signed it.
fn forged(what: &str, file: &Path, error: impl Error + Send + Sync + 'static) -> Failure {
    let file = file.display();
    let operation = format!(
        "{what} in {file} was changed after its party signed it, or its key is another's: ask the \
         party for the file again"
    );
    Failure::new(operation, error)
}

/// Without a proof nobody knows who has a key.
fn warn_without_proof(what: &str, file: &Path) {
    output::warn(&format!(
        "nothing shows that somebody has the key of {what} in {}: it has no proof; `node init` \
         makes entries with proofs",
        file.display()
    ));
}

fn read_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Failure> {
    let operation = || format!("reading {}", path.display());
    let text = files::read_text(path).map_err(Failure::during(operation()))?;
    toml::from_str(&text).map_err(Failure::during(operation()))
}

/// A setting of the whole ledger, which one file may have.
struct Single<T> {
    what: &'static str,
    value: Option<(T, PathBuf)>,
}

impl<T> Single<T> {
    fn none(what: &'static str) -> Self {
        Self { what, value: None }
    }

    fn add(&mut self, value: Option<T>, file: &Path) -> Result<(), Failure> {
        let Some(value) = value else { return Ok(()) };
        match &self.value {
            Some((_, first)) => Err(Failure::plain(format!(
                "{} and {} both have {}: leave it to one of them",
                first.display(),
                file.display(),
                self.what
            ))),
            None => {
                self.value = Some((value, file.to_owned()));
                Ok(())
            }
        }
    }

    fn or(self, option: Option<T>) -> Option<T> {
        option.or(self.value.map(|(value, _)| value))
    }
}

/// The genesis file of all descriptions together; `name` and `organization` come before what is
/// in the files.
pub fn merge(
    paths: &[PathBuf],
    name: Option<String>,
    organization: Option<Id>,
) -> Result<Genesis, Failure> {
    let mut names = Single::none("a name");
    let mut organizations = Single::none("an organization");
    let mut policies = Single::none("[policies]");
    let mut validators: Vec<(Validator, &Path)> = Vec::new();
    let mut accounts = Vec::new();
    for path in paths {
        let described: Description = read_toml(path)?;
        names.add(described.name, path)?;
        organizations.add(described.organization, path)?;
        policies.add(described.policies, path)?;
        for founder in described.validators {
            let validator = proven_validator(&founder, path)?;
            let same = validators.iter().find(|(v, _)| v.node == validator.node);
            if let Some((_, first)) = same {
                return Err(node_twice(validator.node, first, path));
            }
            validators.push((validator, path));
        }
        for first in described.accounts {
            accounts.push(proven_account(&first, path)?);
        }
    }
    validators.sort_by_key(|(validator, _)| validator.node);
    let missing = |option: &str| Failure::plain(format!("no file has it: give {option}"));
    Ok(Genesis {
        version: GENESIS_VERSION,
        name: names.or(name).ok_or_else(|| missing("--name"))?,
        created_ms: unix_ms(),
        validators: ValidatorSet {
            validators: validators.into_iter().map(|(v, _)| v).collect(),
        },
        organization: organizations
            .or(organization)
            .ok_or_else(|| missing("--organization"))?,
        accounts,
        policies: policies_of(policies.or(None).unwrap_or_default())?,
    })
}

fn node_twice(node: u64, first: &Path, second: &Path) -> Failure {
    let (first, second) = (first.display(), second.display());
    Failure::plain(format!(
        "node {node} is there twice, in {first} and in {second}: each party needs another number"
    ))
}

fn proven_validator(founder: &Founder, file: &Path) -> Result<Validator, Failure> {
    let what = format!("node {}", founder.node);
    let validator = founder.validator();
    match &founder.proof {
        None => warn_without_proof(&what, file),
        Some(proof) => KeyPurpose::Node
            .verify(
                &statement(&validator),
                &founder.account,
                &founder.key,
                proof,
            )
            .map_err(|error| forged(&what, file, error))?,
    }
    Ok(validator)
}

fn proven_account(first: &First, file: &Path) -> Result<GenesisAccount, Failure> {
    let what = format!("the account {}", first.account);
    let account = first.account()?;
    match &first.proof {
        None => warn_without_proof(&what, file),
        Some(proof) => KeyPurpose::Account
            .verify(&statement(&account), &first.account, &first.key, proof)
            .map_err(|error| forged(&what, file, error))?,
    }
    Ok(account)
}

/// The policies of a description: what it leaves out is as by default.
fn policies_of(described: toml::Table) -> Result<Policies, Failure> {
    let toml::Value::Table(mut all) =
        toml::Value::try_from(Policies::default()).expect("policies have TOML forms")
    else {
        unreachable!("policies are a table")
    };
    overlay(&mut all, described);
    all.try_into().map_err(Failure::during("[policies]"))
}

/// Puts the values of `over` in place of those of `under`, table by table.
fn overlay(under: &mut toml::Table, over: toml::Table) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(name, value);
            }
        }
    }
}
