//! The table of kinds and classes, and the kinds of the routes.

use std::fmt::Write;

/// A kind of record, by which rights are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Headers, certificates, organizations, policies, registries of IOTRegistry.
    Common,
    /// Whole blocks.
    Block,
    /// Transactions, their receipts and the proofs of both.
    Transaction,
    /// Accounts with their history.
    Account,
    /// Logins of accounts at the node.
    Session,
    /// Proposals, and the history of the ledger itself.
    Governance,
    /// Devices with their state, events, alarms, configuration, deployments and history.
    Device,
    Release,
    /// Rollouts with their counts.
    Rollout,
    /// Desired documents by target.
    Config,
}

/// A class of accounts; an account may be in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Each account.
    Account,
    /// Auditors, administrators and security of the whole city, and nodes.
    Everything,
    /// Operators and approvers, and auditors, administrators and security of a district.
    District,
    Vendor,
    Gateway,
}

/// How far a class reaches into a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    All,
    /// Records in the districts of the account.
    Districts,
    /// Records of the account itself.
    Account,
    /// Records of the devices that are assigned to the gateway.
    Devices,
    Nothing,
}

const KINDS: [(Kind, &str); 10] = [
    (
        Kind::Common,
        "headers, certificates, proofs of validators, organizations, policies, IOTRegistry",
    ),
    (Kind::Block, "whole blocks"),
    (
        Kind::Transaction,
        "transactions, receipts, and proofs of them",
    ),
    (Kind::Account, "accounts"),
    (Kind::Session, "sessions"),
    (Kind::Governance, "proposals, history of the ledger itself"),
    (
        Kind::Device,
        "devices: state, events, alarms, configuration, deployments",
    ),
    (Kind::Release, "releases"),
    (Kind::Rollout, "rollouts with their counts"),
    (Kind::Config, "desired documents"),
];

const CLASSES: [(Class, &str); 5] = [
    (Class::Everything, "auditor, administrator, security; nodes"),
    (Class::District, "operator, approver"),
    (Class::Vendor, "vendor"),
    (Class::Gateway, "gateway"),
    (Class::Account, "each account"),
];

/// How far a class reaches into a kind: the rule for all reads.
pub const fn reach(class: Class, kind: Kind) -> Reach {
    match (class, kind) {
        (Class::Everything, _) | (_, Kind::Common) => Reach::All,
        (_, Kind::Block | Kind::Governance) => Reach::Nothing,
        (Class::Account, Kind::Transaction | Kind::Account | Kind::Session) => Reach::Account,
        (Class::Account, Kind::Device | Kind::Release | Kind::Rollout | Kind::Config) => {
            Reach::Nothing
        }
        (Class::District, Kind::Release) => Reach::All,
        (Class::District, Kind::Account | Kind::Device | Kind::Rollout | Kind::Config) => {
            Reach::Districts
        }
        (Class::Vendor, Kind::Release | Kind::Rollout) => Reach::Account,
        (Class::Gateway, Kind::Device | Kind::Release | Kind::Rollout | Kind::Config) => {
            Reach::Devices
        }
        (_, Kind::Session)
        | (Class::District, Kind::Transaction)
        | (Class::Vendor, Kind::Transaction | Kind::Account | Kind::Device | Kind::Config)
        | (Class::Gateway, Kind::Transaction | Kind::Account) => Reach::Nothing,
    }
}

const fn words(reach: Reach, kind: Kind) -> &'static str {
    match (reach, kind) {
        (Reach::All, _) => "all",
        (Reach::Districts, Kind::Account) => "gateways of its districts",
        (Reach::Districts, Kind::Rollout | Kind::Config) => "those that touch its districts",
        (Reach::Districts, _) => "those in its districts",
        (Reach::Account, Kind::Rollout) => "those of its releases",
        (Reach::Account, _) => "its own",
        (Reach::Devices, Kind::Device) => "those assigned to it",
        (Reach::Devices, _) => "those that concern its devices",
        (Reach::Nothing, _) => "",
    }
}

/// The table as it stands in `docs/api.md`.
pub fn to_markdown() -> String {
    let mut text = "| |".to_owned();
    for (_, name) in CLASSES {
        write!(text, " {name} |").expect("a string takes all text");
    }
    text += "\n|---|---|---|---|---|---|\n";
    for (kind, name) in KINDS {
        write!(text, "| {name} |").expect("a string takes all text");
        for (class, _) in CLASSES {
            let words = words(reach(class, kind), kind);
            write!(text, " {words} |").expect("a string takes all text");
        }
        text.push('\n');
    }
    text
}

/// The sentence about a kind in the description of a route.
pub fn sentence(kind: Kind) -> String {
    let parts = CLASSES.iter().filter_map(|(class, name)| {
        let words = words(reach(*class, kind), kind);
        (!words.is_empty()).then(|| format!("{name}: {words}"))
    });
    format!("Who reads it: {}.", parts.collect::<Vec<_>>().join("; "))
}

/// The kind that a route of the interface reads; none for routes that read nothing of the ledger,
/// and for the feed, which has notifications of all kinds.
pub fn kind_of(path: &str) -> Option<Kind> {
    let rest = path.strip_prefix("/v1/")?;
    let (first, rest) = rest.split_once('/').unwrap_or((rest, ""));
    Some(match (first, rest) {
        ("blocks" | "archive", _) => Kind::Block,
        ("transactions", _) => Kind::Transaction,
        ("proofs", rest) if rest.starts_with("transactions") || rest.starts_with("receipts") => {
            Kind::Transaction
        }
        ("proofs", rest) if rest.starts_with("events") => Kind::Device,
        ("headers" | "certificates" | "organizations" | "policies" | "iotregistry", _) => {
            Kind::Common
        }
        ("users", _) => Kind::Account,
        ("auth", rest) if rest.starts_with("sessions") => Kind::Session,
        ("proposals" | "governance", _) => Kind::Governance,
        ("devices" | "alarms" | "deployments" | "reports", _) => Kind::Device,
        ("rollouts", rest) if rest.ends_with("/deployments") => Kind::Device,
        ("firmware", _) => Kind::Release,
        ("rollouts", _) => Kind::Rollout,
        ("config", _) => Kind::Config,
        _ => return None,
    })
}
