//! The steps that start the validators and register accounts and devices.

use lamplighter_types::{
    Action, DevicesAction, KeyPurpose, NewDevice, Role, Scope, Tag, UsersAction,
};
use serde_json::{Value, json};

use super::{HARDWARE_CLASS, MODEL, gateway_name, things};
use crate::DevnetError;
use crate::city::{district, id};
use crate::network::{Devnet, submit_action};

/// Devices of one transaction.
const DEVICES_PER_TRANSACTION: usize = 250;

pub(super) async fn validators(devnet: &mut Devnet) -> Result<Value, DevnetError> {
    devnet.start_nodes().await?;
    let processes: Vec<_> = devnet.nodes.iter().map(|node| node.process.pid()).collect();
    Ok(json!({ "chain_id": devnet.city.genesis.chain_id(), "processes": processes }))
}

/// The district of a gateway.
pub(crate) fn district_of(gateway: usize) -> Scope {
    district(["north", "harbour", "old-town", "west"][gateway % 4])
}

/// Registers the lamps' owner, a maintainer and the gateways, each by a transaction of the
/// administrator.
pub(super) async fn register(devnet: &mut Devnet) -> Result<Value, DevnetError> {
    let admin = devnet.client("admin-1")?;
    let mut accounts = vec!["maintainer".to_owned()];
    let organization = UsersAction::RegisterOrganization {
        organization: id("lighting"),
        name: "Street lighting department".to_owned(),
    };
    submit_action(
        &admin,
        "registering an organization",
        Action::Users(organization),
    )
    .await?;
    let maintainer = devnet.city.add_key(&devnet.files.keys(), "maintainer")?;
    let user = UsersAction::RegisterUser {
        proof: devnet.city.proof(&maintainer),
        account: maintainer.account.clone(),
        organization: id("lighting"),
        name: "Maintainer of the lamps".to_owned(),
        key: maintainer.secret.public(),
    };
    submit_action(&admin, "registering a user", Action::Users(user)).await?;
    let account = maintainer.account;
    let grant = UsersAction::Grant {
        account,
        role: Role::Operator,
        scope: district_of(0),
    };
    submit_action(&admin, "granting a role", Action::Users(grant)).await?;
    for gateway in 0..devnet.plan.gateways {
        let name = gateway_name(gateway);
        let member = devnet.city.add_key(&devnet.files.keys(), &name)?;
        let action = UsersAction::RegisterGateway {
            proof: devnet.city.proof(&member),
            account: member.account,
            organization: id("lighting"),
            district: district_of(gateway),
            key: member.secret.public(),
        };
        submit_action(&admin, "registering a gateway", Action::Users(action)).await?;
        accounts.push(name);
    }
    Ok(json!({ "registered": accounts }))
}

/// Registers every Thing with its key, as the operator.
pub(super) async fn register_devices(devnet: &mut Devnet) -> Result<Value, DevnetError> {
    let operator = devnet.client("operator")?;
    let chain_id = devnet.city.genesis.chain_id();
    let mut devices = Vec::new();
    for gateway in 0..devnet.plan.gateways {
        for device in things(devnet, gateway) {
            let member = devnet.city.add_key(&devnet.files.keys(), device.as_str())?;
            let secret = &member.secret;
            let proof = secret.prove(KeyPurpose::Device, &chain_id, &device);
            devices.push(NewDevice {
                device,
                owner: id("lighting"),
                model: MODEL.to_owned(),
                hardware_class: HARDWARE_CLASS.to_owned(),
                district: district_of(gateway),
                gateway: Some(id(&gateway_name(gateway))),
                key: Some(secret.public()),
                proof: Some(proof),
                tags: vec![Tag {
                    name: "pole".to_owned(),
                    value: devices.len().to_string(),
                }],
            });
        }
    }
    for some in devices.chunks(DEVICES_PER_TRANSACTION) {
        let action = DevicesAction::Register {
            devices: some.to_vec(),
        };
        submit_action(&operator, "registering devices", Action::Devices(action)).await?;
    }
    Ok(json!({ "devices": devices.len() }))
}
