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
        LastAdministrator(account: Id) = "users.last_administrator",
            "{account} is the last account that can administer the whole city";
        Disabled(account: Id) = "users.disabled",
            "{account} is disabled already";
        Enabled(account: Id) = "users.enabled",
            "{account} is not disabled";
        SelfRecovery(account: Id) = "users.own_recovery",
            "{account} can't vote for its own recovery";
        Voted(account: Id) = "users.voted",
            "{account} has voted for this key already";
        TooManyVotes = "users.too_many_votes",
            "16 votes have been cast for this key, which is the most";
    }
}
