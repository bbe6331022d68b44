//! Facts and actions in words, a line each. Every match is total, so that a new fact or action does
//! not compile until it has its words.

mod actions;
mod facts;
#[cfg(test)]
mod tests;

use lamplighter_types::{
    ConfigTarget, GovernanceChange, Hash, Observer, Outcome, Policies, PublicKey, Receipt,
    RefusalFields, Role, Scope, Selection, Validator,
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

/// The devices that a document is for.
pub fn target(target: &ConfigTarget) -> String {
    match target {
        ConfigTarget::Fleet => "the fleet".to_owned(),
        ConfigTarget::Model { model } => format!("the model {model}"),
        ConfigTarget::District { district } => format!("the district {district}"),
        ConfigTarget::Device { device } => device.to_string(),
    }
}

/// A change of governance in a line.
pub fn change(change: &GovernanceChange) -> String {
    match change {
        GovernanceChange::AddValidator { validator } => add_validator(validator),
        GovernanceChange::RemoveValidator { node } => format!("remove the validator {node}"),
        GovernanceChange::AddObserver { observer } => {
            let Observer {
                node,
                account,
                key,
                address,
            } = observer;
            format!("add the observer {node} ({account}, {address}, key {key})")
        }
        GovernanceChange::RemoveObserver { node } => format!("remove the observer {node}"),
        GovernanceChange::SetPolicies { policies } => {
            let Policies {
                release_approvals,
                rollout_approvals,
                recovery_approvals,
                governance_approvals,
            } = policies;
            format!(
                "demand approvals: {release_approvals} of a release, {rollout_approvals} of a \
                 rollout, {recovery_approvals} of a recovery, {governance_approvals} of a proposal"
            )
        }
        GovernanceChange::SetProtocol {
            version,
            from_height,
        } => format!("follow version {version} of the rules from block {from_height} on"),
    }
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
