//! A thief with the key of the security officer.

use lamplighter_types::{Action, FirmwareAction, GovernanceChange, KeyPurpose, Role, UsersAction};

use super::{grant_of, propose};
use crate::DevnetError;
use crate::attacks::{must_fail, unregistered_key};
use crate::city::id;
use crate::journal::Journal;
use crate::network::Devnet;
use crate::scenario::{RELEASE, manifest_of};

pub(super) async fn run(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let security = devnet.client("security")?;
    let (thief, admin) = (unregistered_key()?, id("admin-1"));
    let chain_id = devnet.city.genesis.chain_id();
    let recovery = vec![GovernanceChange::Recover {
        proof: thief.prove(KeyPurpose::Account, &chain_id, &admin),
        account: admin,
        new_key: thief.public(),
    }];
    let verdict = must_fail(&security, propose("recover", recovery), &["forbidden"]).await;
    journal.attack("an account recovered by the security officer", verdict);

    let power = vec![grant_of("security", Role::Administrator)];
    let verdict = must_fail(&security, propose("power", power), &["forbidden"]).await;
    journal.attack(
        "a security officer that makes itself administrator",
        verdict,
    );

    let manifest = manifest_of(RELEASE, "vendor", &devnet.firmware.1);
    let approval = Action::Firmware(FirmwareAction::Approve {
        release: id(RELEASE),
        manifest: lamplighter_types::codec::digest(&manifest),
    });
    let verdict = must_fail(&security, approval, &["forbidden"]).await;
    journal.attack("a release approved by the security officer", verdict);

    for (name, account) in [
        ("the key of one of two administrators revoked", "admin-1"),
        ("the key of one of two approvers revoked", "approver-1"),
    ] {
        let revoke = UsersAction::RevokeKey {
            account: id(account),
            key: devnet.city.member(account).secret.public(),
        };
        let verdict = must_fail(&security, Action::Users(revoke), &["users.too_few_left"]).await;
        journal.attack(name, verdict);
    }
    Ok(())
}
