use lamplighter_types::crypto::BadSignature;
use lamplighter_types::limits::{GRANTS_PER_ACCOUNT_MAX, HOLDERS_MAX, KEYS_PER_ACCOUNT_MAX};
use lamplighter_types::{Id, PublicKey, Role, Scope};

use crate::ContractError;
use crate::validate::FieldError;

/// Why the users contract refuses an action.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UsersError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("there is no organization {0}")]
    UnknownOrganization(Id),
    #[error("there is an organization {0} already")]
    OrganizationExists(Id),
    #[error("there is no account {0}")]
    UnknownAccount(Id),
    #[error("there is an account {0} already")]
    AccountExists(Id),
    #[error("the key {0} is no point of the curve or of small order")]
    WeakKey(PublicKey),
    #[error("the key {0} is or was in use")]
    KeyTaken(PublicKey),
    #[error("{account} has no key {key} in use")]
    NoSuchKey { account: Id, key: PublicKey },
    #[error("the new key did not sign its introduction")]
    WrongProof(#[source] BadSignature),
    #[error("{0} is not a user, so it has no roles")]
    NotAUser(Id),
    #[error("{0} is a node: only governance changes it")]
    IsNode(Id),
    #[error("{account} has the role {role:?} for {scope:?} already")]
    RoleGranted {
        account: Id,
        role: Role,
        scope: Scope,
    },
    #[error("{account} does not have the role {role:?} for exactly {scope:?}")]
    NoSuchGrant {
        account: Id,
        role: Role,
        scope: Scope,
    },
    #[error("{0} has {GRANTS_PER_ACCOUNT_MAX} roles, which is the most")]
    TooManyGrants(Id),
    #[error("{account} can't grant a role to itself")]
    SelfGrant { account: Id },
    #[error("the role {0:?} is granted and revoked by a proposal that several approve")]
    PowerRole(Role),
    #[error(
        "{left} accounts with the role {role:?} for the whole city would be left to undo this, \
         fewer than the {needed} that the policies ask for"
    )]
    TooFewLeft { role: Role, left: usize, needed: u8 },
    #[error("{HOLDERS_MAX} accounts have the role {0:?} for the whole city, which is the most")]
    TooManyHolders(Role),
    #[error("{account} is a newcomer: its approvals as {role:?} do not count yet")]
    Newcomer { account: Id, role: Role },
    #[error("{0} has {KEYS_PER_ACCOUNT_MAX} keys, which is the most")]
    TooManyKeys(Id),
    #[error("{0} is disabled already")]
    Disabled(Id),
    #[error("{0} is not disabled")]
    Enabled(Id),
}

impl ContractError for UsersError {
    fn code(&self) -> &'static str {
        match self {
            Self::Field(error) => error.code(),
            Self::UnknownOrganization(_) => "users.unknown_organization",
            Self::OrganizationExists(_) => "users.organization_exists",
            Self::UnknownAccount(_) => "users.unknown_account",
            Self::AccountExists(_) => "users.account_exists",
            Self::WeakKey(_) => "users.weak_key",
            Self::KeyTaken(_) => "users.key_taken",
            Self::NoSuchKey { .. } => "users.no_such_key",
            Self::WrongProof(_) => "users.wrong_proof",
            Self::NotAUser(_) => "users.not_a_user",
            Self::IsNode(_) => "users.is_node",
            Self::RoleGranted { .. } => "users.role_granted",
            Self::NoSuchGrant { .. } => "users.no_such_grant",
            Self::TooManyGrants(_) => "users.too_many_grants",
            Self::SelfGrant { .. } => "users.self_grant",
            Self::PowerRole(_) => "users.power_role",
            Self::TooFewLeft { .. } => "users.too_few_left",
            Self::TooManyHolders(_) => "users.too_many_holders",
            Self::Newcomer { .. } => "users.newcomer",
            Self::TooManyKeys(_) => "users.too_many_keys",
            Self::Disabled(_) => "users.disabled",
            Self::Enabled(_) => "users.enabled",
        }
    }
}
