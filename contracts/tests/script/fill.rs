//! Keys, digests and signatures that a script names.

use std::collections::BTreeMap;

use lamplighter_contracts::{firmware, governance, rollouts};
use lamplighter_state::View;
use lamplighter_types::{
    Action, ConfigAction, DeviceSigned, DevicesAction, EventsAction, Hash, Id, KeyPurpose,
    NewDevice, PublicKey, RolloutsAction, SecretKey, SignedRelease,
};
use serde_json::{Value, json};

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
    pub sender_key: PublicKey,
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
                None => {
                    let mut filled: serde_json::Map<_, _> = members
                        .into_iter()
                        .map(|(name, v)| (name, self.fill(v)))
                        .collect();
                    self.prove(&mut filled);
                    Value::Object(filled)
                }
            },
            other => other,
        }
    }

    /// Adds the proof of possession to the registration of an account with a key that has a name.
    fn prove(&self, members: &mut serde_json::Map<String, Value>) {
        let (Some(account), Some(key)) = (members.get("account"), members.get("key")) else {
            return;
        };
        if members.contains_key("proof") || members.contains_key("node") {
            return;
        }
        let label = key.as_str().and_then(|key| self.labels.get(key));
        let (Some(account), Some(name)) = (account.as_str(), label) else {
            return;
        };
        let account = Id::new(account).expect("an id");
        let secret = secret(name.trim_start_matches("$key:"));
        let proof = secret.prove(KeyPurpose::Account, &self.chain_id, &account);
        members.insert("proof".to_owned(), json!(proof));
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
            "change" => {
                let proposal = governance::proposal(self.view, &id()).unwrap().unwrap();
                self.label(proposal.digest.to_string(), name)
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
            devices.iter_mut().for_each(|new| prove(new, chain_id));
        }
        Action::Devices(DevicesAction::RotateKey { rotation }) => {
            signer.sign(&rotation.device.clone(), rotation);
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
fn prove(new: &mut NewDevice, chain_id: &Hash) {
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
