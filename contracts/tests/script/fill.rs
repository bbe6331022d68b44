//! Keys, digests and signatures that a script names.

use std::collections::BTreeMap;

use lamplighter_contracts::{firmware, governance, rollouts};
use lamplighter_state::View;
use lamplighter_types::{
    Action, ConfigAction, DeviceSigned, DevicesAction, EventsAction, Hash, Id, KeyPurpose,
    NewDevice, Policies, RolloutsAction, SecretKey, SignedRelease,
};
use serde_json::{Map, Value, json};

/// The key that has a name.
pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

/// Fills in the placeholders of an action, and keeps the names that it used.
pub struct Filler<'a> {
    pub view: &'a View,
    pub chain_id: Hash,
    pub time_ms: u64,
    pub sender: &'a str,
    pub labels: &'a mut BTreeMap<String, String>,
}

impl Filler<'_> {
    /// Replaces everything that begins with `$`.
    pub fn fill(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) => match text.strip_prefix('$') {
                Some(name) => self.named(name),
                None => Value::String(text),
            },
            Value::Array(items) => {
                let items = items.into_iter().flat_map(repeated);
                items.map(|item| self.fill(item)).collect()
            }
            Value::Object(mut members) => match members.remove("$release") {
                Some(manifest) => self.release(manifest, &members["$by"]),
                None if members.contains_key("$policies") => policies(&members["$policies"]),
                None => {
                    prove(&mut members);
                    let members = members.into_iter();
                    members.map(|(name, v)| (name, self.fill(v))).collect()
                }
            },
            other => other,
        }
    }

    fn label(&mut self, hex: String, name: &str) -> Value {
        self.labels.insert(hex.clone(), format!("${name}"));
        Value::String(hex)
    }

    fn named(&mut self, name: &str) -> Value {
        let (kind, rest) = name.split_once([':', '+']).unwrap_or((name, ""));
        let id = || Id::new(rest).expect("an id");
        match kind {
            "key" => self.label(secret(rest).public().to_string(), name),
            "hash" => self.label(Hash::of(rest.as_bytes()).to_string(), name),
            "number" => json!(rest.split('+').map(product).sum::<u64>()),
            "now" => json!(self.time_ms + rest.parse::<u64>().unwrap_or(0)),
            "rotation" => {
                let account = Id::new(self.sender).expect("an id");
                json!(secret(rest).prove(KeyPurpose::Account, &self.chain_id, &account))
            }
            "device_proof" => {
                let (key, device) = rest.split_once('@').expect("a key and a device");
                let device = Id::new(device).expect("an id");
                json!(secret(key).prove(KeyPurpose::Device, &self.chain_id, &device))
            }
            "proof" | "node_proof" => {
                let purpose = match kind {
                    "proof" => KeyPurpose::Account,
                    _ => KeyPurpose::Node,
                };
                let (key, account) = rest.split_once('@').unwrap_or((rest, rest));
                let account = Id::new(account).expect("an id");
                json!(secret(key).prove(purpose, &self.chain_id, &account))
            }
            "change" => {
                // A proposal that is no longer open has no digest in the state.
                let proposal = governance::proposal(self.view, &id()).unwrap();
                let digest = proposal.map_or_else(|| Hash::of(rest.as_bytes()), |p| p.digest);
                self.label(digest.to_string(), name)
            }
            "plan" => {
                let rollout = rollouts::rollout(self.view, &id()).unwrap().unwrap();
                self.label(rollout.plan_digest.to_string(), name)
            }
            "manifest" => {
                let release = firmware::release(self.view, &id()).unwrap().unwrap();
                self.label(release.manifest_digest.to_string(), name)
            }
            _ => panic!("nothing can be filled in for ${name}"),
        }
    }

    fn release(&mut self, manifest: Value, by: &Value) -> Value {
        let manifest = serde_json::from_value(self.fill(manifest)).expect("a manifest");
        let by = by.as_str().expect("the name of a key");
        json!(SignedRelease::sign(&manifest, &secret(by)))
    }
}

fn product(text: &str) -> u64 {
    let factors = text.split('*');
    factors
        .map(|n| n.parse::<u64>().expect("a number"))
        .product()
}

/// The items that an item of a list stands for.
fn repeated(item: Value) -> Vec<Value> {
    match item.get("$repeat").and_then(Value::as_u64) {
        Some(count) => (1..=count)
            .map(|n| numbered(&item["$item"], "{n}", n))
            .collect(),
        None => vec![item],
    }
}

/// Replaces `place` in all texts by a number.
pub fn numbered(value: &Value, place: &str, number: u64) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(place, &number.to_string())),
        Value::Array(items) => items
            .iter()
            .map(|item| numbered(item, place, number))
            .collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), numbered(member, place, number)))
            .collect(),
        other => other.clone(),
    }
}

/// The default policies with some numbers changed; a number is named by its path.
fn policies(changed: &Value) -> Value {
    let mut policies = json!(Policies::default());
    for (path, number) in changed.as_object().expect("numbers by their paths") {
        let pointer = format!("/{}", path.replace('.', "/"));
        *policies
            .pointer_mut(&pointer)
            .expect("a number of the policies") = number.clone();
    }
    policies
}

/// Adds the proof of possession of a key that a user, gateway or node gets, where a script leaves
/// it out.
fn prove(members: &mut Map<String, Value>) {
    let nested = members
        .get("validator")
        .or(members.get("observer"))
        .cloned();
    let of = nested.as_ref().and_then(Value::as_object);
    let kind = if of.is_some() { "node_proof" } else { "proof" };
    let of = of.unwrap_or(members);
    let text = |name: &str| of.get(name).and_then(Value::as_str);
    let introduces =
        of.contains_key("organization") || of.contains_key("new_key") || kind != "proof";
    let key = text("key")
        .or(text("new_key"))
        .and_then(|key| key.strip_prefix("$key:"));
    let (Some(key), Some(account), true) = (key, text("account"), introduces) else {
        return;
    };
    let proof = format!("${kind}:{key}@{account}");
    members.entry("proof").or_insert(Value::String(proof));
}

/// Signs the reports and events of `devices` with their keys.
pub fn sign(action: &mut Action, devices: &[String], chain_id: &Hash) {
    let mut signer = Signer { devices, chain_id };
    match action {
        Action::Devices(DevicesAction::ReportInventory { reports }) => {
            reports
                .iter_mut()
                .for_each(|r| signer.sign(&r.device.clone(), r));
        }
        Action::Config(ConfigAction::Report { reports }) => {
            reports
                .iter_mut()
                .for_each(|r| signer.sign(&r.device.clone(), r));
        }
        Action::Rollouts(RolloutsAction::Report { reports }) => {
            reports
                .iter_mut()
                .for_each(|r| signer.sign(&r.device.clone(), r));
        }
        Action::Devices(DevicesAction::Register { devices }) => {
            devices
                .iter_mut()
                .for_each(|new| prove_device(new, chain_id));
        }
        Action::Devices(DevicesAction::RotateKeys { rotations }) => {
            rotations
                .iter_mut()
                .for_each(|r| signer.sign(&r.device.clone(), r));
        }
        Action::Events(EventsAction::Append { events }) => {
            events
                .iter_mut()
                .for_each(|e| signer.sign(&e.device.clone(), e));
        }
        _ => assert!(
            devices.is_empty(),
            "this action has nothing that devices sign"
        ),
    }
}

/// Adds the proof of possession of a device whose key has its own name.
fn prove_device(new: &mut NewDevice, chain_id: &Hash) {
    let secret = secret(new.device.as_str());
    if new.proof.is_none() && new.key == Some(secret.public()) {
        new.proof = Some(secret.prove(KeyPurpose::Device, chain_id, &new.device));
    }
}

struct Signer<'a> {
    devices: &'a [String],
    chain_id: &'a Hash,
}

impl Signer<'_> {
    fn sign<T: DeviceSigned>(&mut self, device: &Id, value: &mut T) {
        if self.devices.iter().any(|name| name == device.as_str()) {
            value.sign(self.chain_id, &secret(device.as_str()));
        }
    }
}
