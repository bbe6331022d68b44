use lamplighter_types::{Id, PublicKey, Role, Scope};

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the users contract refuses an action.
    pub enum UsersError [Field(FieldError)] {
        UnknownOrganization(organization: Id) = "users.unknown_organization",
            "there is no organization {organization}";
        OrganizationExists(organization: Id) = "users.organization_exists",
            "there is an organization {organization} already";
        UnknownAccount(account: Id) = "users.unknown_account",
            "there is no account {account}";
        AccountExists(account: Id) = "users.account_exists",
            "there is an account {account} already";
        WeakKey(key: PublicKey) = "users.weak_key",
            "the key {key} is no point of the curve or of small order";
        KeyTaken(key: PublicKey) = "users.key_taken",
            "the key {key} is or was in use";
        NoSuchKey { account: Id, key: PublicKey } = "users.no_such_key",
            "{account} has no key {key} in use";
        WrongProof = "users.wrong_proof",
            "the new key did not sign its introduction";
        NotAUser(account: Id) = "users.not_a_user",
            "{account} is not a user, so it has no roles";
        IsNode(account: Id) = "users.is_node",
            "{account} is a node: only governance changes it";
        RoleGranted { account: Id, role: Role, scope: Scope } = "users.role_granted",
            "{account} has the role {role} for {scope} already";
        NoSuchGrant { account: Id, role: Role, scope: Scope } = "users.no_such_grant",
            "{account} does not have the role {role} for exactly {scope}";
        TooManyGrants(account: Id) = "users.too_many_grants",
            "{account} has 64 roles, which is the most";
        SelfGrant(account: Id) = "users.self_grant",
            "{account} can't grant a role to itself";
        PowerRole(role: Role) = "users.power_role",
            "the role {role} is granted and revoked by a proposal that several approve";
        TooFewLeft { role: Role, left: usize, needed: u8 } = "users.too_few_left",
            "{left} others with the role {role} for the whole city would be left, and the policies \
             ask for {needed}";
        TooManyHolders(role: Role) = "users.too_many_holders",
            "64 accounts have the role {role} for the whole city, which is the most";
        Newcomer { account: Id, role: Role } = "users.newcomer",
            "{account} is a newcomer: its approvals as {role} do not count yet";
        TooManyKeys(account: Id) = "users.too_many_keys",
            "{account} has 4 keys, which is the most";
        Disabled(account: Id) = "users.disabled",
            "{account} is disabled already";
        Enabled(account: Id) = "users.enabled",
            "{account} is not disabled";
    }
}
