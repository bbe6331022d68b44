//! Facts and actions in words, a line each. Every match is total, so that a new fact or action does
//! not compile until it has its words.

mod actions;
mod facts;
#[cfg(test)]
mod tests;

use lamplighter_types::{
    Allowance, Allowances, ApprovalPolicy, ConfigTarget, DeviceCounters, GovernanceChange,
    GroupMembers, Hash, Observer, Outcome, Policies, PublicKey, Receipt, RefusalFields, Role,
    Scope, Selection, Validator,
};

pub use actions::action;
pub use facts::notification;

use crate::output::name;

/// The most names that are listed.
const NAMED_MAX: usize = 3;
/// Characters of a hash or key that are printed where the whole one is not needed.
const SHORT: usize = 12;

/// A value's name with blanks, e.g. `timed out`.
pub fn words(value: &impl serde::Serialize) -> String {
    name(value).replace('_', " ")
}

/// The beginning of a hash or key.
pub fn short(bytes: &impl ToString) -> String {
    let text = bytes.to_string();
    format!("{}…", text.get(..SHORT).unwrap_or(&text))
}

/// Where a role or a document holds.
pub fn place(scope: &Scope) -> String {
    match scope.as_str() {
        "" => "the whole city".to_owned(),
        district => district.to_owned(),
    }
}

/// The line of a refusal: the text of the node that was asked, or the facts that are on the record.
pub fn refusal(code: &str, fields: &RefusalFields, message: Option<&str>) -> String {
    let facts = || {
        let facts = fields.iter().map(|(name, value)| format!("{name} {value}"));
        facts.collect::<Vec<_>>().join(", ")
    };
    match message.map_or_else(facts, str::to_owned) {
        text if text.is_empty() => format!("refused ({code})"),
        text => format!("refused: {text} ({code})"),
    }
}

/// The lines of a receipt: each fact, or why nothing was done.
pub fn receipt(receipt: &Receipt) -> Vec<String> {
    match &receipt.outcome {
        Outcome::Failed { code, fields } => vec![refusal(code, fields, None)],
        Outcome::Succeeded => receipt.notifications.iter().map(notification).collect(),
    }
}

/// The devices of a rollout.
pub fn selection(selection: &Selection) -> String {
    match selection {
        Selection::List { devices } => names(devices),
        Selection::Filter {
            district,
            model,
            hardware_class,
            tag,
        } => {
            let parts = [
                ("model", model),
                ("hardware class", hardware_class),
                ("tag", tag),
            ];
            let parts = parts
                .iter()
                .filter_map(|(part, value)| Some(format!(", {part} {}", value.as_ref()?)));
            let parts: String = parts.collect();
            format!("every active device of {}{parts}", place(district))
        }
    }
}

/// The devices of a group.
pub fn members(members: &GroupMembers) -> String {
    match members {
        GroupMembers::Selected { selection } => self::selection(selection),
        GroupMembers::Count { count: 1 } => "1 device".to_owned(),
        GroupMembers::Count { count } => format!("{count} devices"),
        GroupMembers::Percent { percent } => format!("{percent} % of the devices"),
        GroupMembers::Rest => "the rest".to_owned(),
    }
}

/// The devices that a document is for.
pub fn target(target: &ConfigTarget) -> String {
    match target {
        ConfigTarget::Fleet => "the fleet".to_owned(),
        ConfigTarget::Model { model } => format!("the model {model}"),
        ConfigTarget::District { district } => format!("the district {district}"),
        ConfigTarget::Device { device } => device.to_string(),
    }
}

/// The changes of a proposal in a line.
pub fn changes(changes: &[GovernanceChange]) -> String {
    let all: Vec<_> = changes.iter().map(change).collect();
    all.join("; ")
}

/// The numbers that a reset sets.
fn counters(counters: &DeviceCounters) -> String {
    let DeviceCounters {
        report_counter,
        security_counter,
        event_sequence,
    } = counters;
    let all = [
        ("report counter", *report_counter),
        ("security counter", *security_counter),
        ("event sequence", *event_sequence),
    ];
    let set = all
        .iter()
        .filter_map(|(name, number)| Some(format!("{name} {}", number.as_ref()?)));
    set.collect::<Vec<_>>().join(", ")
}

/// A change of governance in a line.
fn change(change: &GovernanceChange) -> String {
    match change {
        GovernanceChange::AddValidator {
            validator,
            proof: _,
        } => add_validator(validator),
        GovernanceChange::RemoveValidator { node } => format!("remove the validator {node}"),
        GovernanceChange::AddObserver { observer, proof: _ } => {
            let Observer {
                node,
                account,
                key,
                address,
            } = observer;
            format!("add the observer {node} ({account}, {address}, key {key})")
        }
        GovernanceChange::RemoveObserver { node } => format!("remove the observer {node}"),
        GovernanceChange::SetPolicies { policies } => set_policies(policies),
        GovernanceChange::SetProtocol {
            version,
            from_height,
        } => format!("follow version {version} of the rules from block {from_height} on"),
        GovernanceChange::RegisterUser {
            account,
            organization,
            name,
            key: new,
            proof: _,
        } => format!(
            "register the user {account} ({name}) of {organization} with the key {}",
            key(new)
        ),
        GovernanceChange::Grant {
            account,
            role: granted,
            scope,
        } => format!("make {account} {}", role(*granted, scope)),
        GovernanceChange::Revoke {
            account,
            role: revoked,
            scope,
        } => format!("make {account} no longer {}", role(*revoked, scope)),
        GovernanceChange::Disable { account } => format!("disable {account}"),
        GovernanceChange::Enable { account } => format!("enable {account}"),
        GovernanceChange::Recover {
            account,
            new_key,
            proof: _,
        } => format!("recover {account} with the key {}", key(new_key)),
        GovernanceChange::ResetDevice {
            device,
            counters: set,
        } => format!("reset {device}: {}", counters(set)),
        GovernanceChange::ReplaceDeviceKey {
            device,
            key: new,
            proof: _,
        } => format!("give {device} the key {}", key(new)),
        GovernanceChange::ReuseHardware { device } => {
            format!("let the key of {device} be registered again")
        }
    }
}

fn set_policies(policies: &Policies) -> String {
    let Policies {
        approvals,
        newcomer_wait_ms,
        allowances,
        retention,
    } = policies;
    let times = retention.named().map(|(of, ms)| format!("{of} {ms}"));
    let times = times.join(", ");
    let numbers = approvals.named().map(|(kind, policy)| {
        let ApprovalPolicy {
            approvals,
            expires_ms,
        } = policy;
        format!("{approvals} for {kind} within {expires_ms} ms")
    });
    let numbers = numbers.join(", ");
    let allowances = self::allowances(allowances);
    format!(
        "demand approvals: {numbers}; a newcomer's count after {newcomer_wait_ms} ms; a day's \
         allowance: {allowances}; keep {times}"
    )
}

fn allowances(allowances: &Allowances) -> String {
    let Allowances {
        users,
        gateways,
        nodes,
    } = allowances;
    let kinds = [("user", users), ("gateway", gateways), ("node", nodes)];
    let kinds = kinds.map(|(kind, Allowance { records, bytes })| {
        format!("{records} records and {bytes} bytes for a {kind}")
    });
    kinds.join(", ")
}

fn add_validator(validator: &Validator) -> String {
    let Validator {
        node,
        account,
        key,
        address,
    } = validator;
    format!("add the validator {node} ({account}, {address}, key {key})")
}

/// The first few of several names, and how many there are beside.
fn names<T: ToString>(all: &[T]) -> String {
    let first = all.iter().take(NAMED_MAX).map(ToString::to_string);
    let first = first.collect::<Vec<_>>().join(" ");
    match all.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn role(role: Role, scope: &Scope) -> String {
    format!("{} of {}", words(&role), place(scope))
}

fn key(key: &PublicKey) -> String {
    short(key)
}

fn hash(hash: &Hash) -> String {
    short(hash)
}

/// A reason or comment, if there is one, to follow what it explains.
fn because(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    }
}
