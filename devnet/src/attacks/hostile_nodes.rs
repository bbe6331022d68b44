//! Attacks by nodes that the ledger knows: an observer that two administrators admitted, and a
//! validator whose machine a thief has. After each attack the city must take a transaction in time,
//! every other node must have the same chain, and no honest node may be accused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lamplighter_client::Wait;
use lamplighter_types::wire::{NodeAlarmKind, Status};
use lamplighter_types::{
    Action, DevicesAction, GovernanceAction, GovernanceChange, KeyPurpose, Observer, Tag,
};

use crate::DevnetError;
use crate::city::{Member, id};
use crate::hostile::{self, ATTACKS, Attack, AttackSummary, HostileOptions, StoreGreeting};
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::lamp;

/// Length of an attack.
const ATTACK_SECONDS: u64 = 2;
/// Time to service after an attack: three election timeouts.
const SERVES_WITHIN: Duration = Duration::from_secs(6);
/// Validators of which one may lie.
const VALIDATORS_MIN: usize = 4;
const OBSERVER: &str = "node-88";

/// A hostile node.
struct Liar {
    role: &'static str,
    node: u64,
    key: String,
    listen: SocketAddr,
    /// The greeting of the last validator, which the observer gets from it.
    last: Option<StoreGreeting>,
    /// The nodes of the devnet that are honest.
    honest: usize,
    /// The greeting of the machine that it has.
    greeting: Option<StoreGreeting>,
}

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    journal.heading("an admitted observer that lies");
    let mut observer = admit(devnet).await?;
    for attack in ATTACKS {
        let verdict = attempt(devnet, &mut observer, attack).await;
        journal.attack(&format!("an observer {}", deed(attack)), verdict);
    }
    let count = devnet.nodes.len();
    if count < VALIDATORS_MIN {
        let size = match count {
            1 => "1 validator".to_owned(),
            _ => format!("{count} validators"),
        };
        for attack in ATTACKS {
            journal.not_applicable(&format!("a validator {}", deed(attack)), &size);
        }
        return Ok(());
    }
    journal.heading("a validator that lies");
    let mut liar = take_over(devnet, &observer).await?;
    for attack in ATTACKS {
        let verdict = attempt(devnet, &mut liar, attack).await;
        journal.attack(&format!("a validator {}", deed(attack)), verdict);
    }
    // The machine is the city's again.
    devnet.nodes[count - 1].process.start()?;
    devnet.ready(count - 1).await
}

/// The attack, after the word for who does it.
fn deed(attack: Attack) -> &'static str {
    match attack {
        Attack::Lead => "that leads without votes",
        Attack::Membership => "that makes itself the only voter",
        Attack::Truncate => "that replaces acknowledged entries",
        Attack::Rewind => "that turns the commit back",
        Attack::AnswerMax => "that answers with the highest term",
        Attack::Height => "that tells of a height of 2^64-1",
        Attack::Frame => "that frames others by their signatures",
        Attack::Flood => "that offers an image of half a TiB",
        Attack::Fork => "that shows two logs",
        Attack::Stand => "that stands for election without end",
    }
}

/// Admits an observer by the two administrators.
async fn admit(devnet: &mut Devnet) -> Result<Liar, DevnetError> {
    let Member { account, secret } = devnet.city.add_key(&devnet.files.keys(), OBSERVER)?;
    let listen = devnet.ports.allocate()?;
    let chain_id = devnet.city.genesis.chain_id();
    let (node, proposal) = (88, id("admit-an-observer"));
    let changes = vec![GovernanceChange::AddObserver {
        proof: secret.prove(KeyPurpose::Node, &chain_id, &account),
        observer: Observer {
            node,
            account,
            key: secret.public(),
            address: listen.to_string(),
        },
    }];
    let approval = GovernanceAction::Approve {
        proposal: proposal.clone(),
        changes: GovernanceChange::digest(&changes),
    };
    let propose = GovernanceAction::Propose { proposal, changes };
    for (administrator, action) in [("admin-1", propose), ("admin-2", approval)] {
        let client = devnet.client(administrator)?;
        let what = "admitting an observer";
        submit_action(&client, what, Action::Governance(action)).await?;
    }
    Ok(Liar {
        role: "observer",
        node,
        key: OBSERVER.to_owned(),
        listen,
        honest: devnet.nodes.len(),
        greeting: None,
        last: None,
    })
}

/// Ends the last validator. The attacks have its key, its address and the name of its store from
/// then on, as who has its machine has them.
async fn take_over(devnet: &mut Devnet, observer: &Liar) -> Result<Liar, DevnetError> {
    let last = devnet.nodes.len() - 1;
    let validator = &mut devnet.nodes[last];
    validator.process.kill().await?;
    let greeting = observer.last.ok_or_else(|| {
        DevnetError::Unexpected(format!("{} greeted nobody", validator.process.name))
    })?;
    Ok(Liar {
        role: "validator",
        node: validator.node,
        key: validator.process.name.clone(),
        listen: validator.config.peer_listen,
        honest: last,
        greeting: Some(greeting.advanced()),
        last: None,
    })
}

async fn attempt(
    devnet: &mut Devnet,
    liar: &mut Liar,
    attack: Attack,
) -> Result<String, DevnetError> {
    let options = HostileOptions {
        genesis: devnet.files.genesis(),
        key: devnet.files.key(&liar.key),
        node: liar.node,
        listen: liar.listen,
        attack,
        seconds: ATTACK_SECONDS,
        greeting: liar.greeting,
    };
    let summary = hostile::run(&options).await?;
    let validators = &devnet.city.genesis.validators.validators;
    let last = validators.last().map(|validator| validator.key.0);
    let greeting = last.and_then(|key| summary.greetings.get(&key).copied());
    liar.last = greeting.or(liar.last);
    if summary.reached == 0 {
        let who = liar.role;
        return Err(DevnetError::Unexpected(format!(
            "the {who} reached no node"
        )));
    }
    if summary.obeyed > 0 && attack != Attack::Stand {
        let (obeyed, sent) = (summary.obeyed, summary.sent);
        let what = format!("{obeyed} of {sent} requests are obeyed");
        return Err(DevnetError::NotRefused(what));
    }
    let served = serves(devnet).await?;
    agree(devnet, liar).await?;
    Ok(format!("{}; {served}", words(&summary)))
}

fn words(summary: &AttackSummary) -> String {
    let AttackSummary {
        sent,
        refused,
        reasons,
        ..
    } = summary;
    match reasons.first() {
        Some(reason) => format!("{refused} of {sent} messages refused: {reason}"),
        None if *sent == 0 => "nobody believes its answers".to_owned(),
        None => format!("nobody believes its {sent} messages"),
    }
}

/// Submits a transaction, which must be certified in time.
async fn serves(devnet: &Devnet) -> Result<String, DevnetError> {
    let operator = devnet.client("operator")?;
    let begun = Instant::now();
    let action = Action::Devices(DevicesAction::Tag {
        device: lamp(1),
        tags: vec![Tag {
            name: "checked".to_owned(),
            value: lamplighter_system::unix_ms().to_string(),
        }],
    });
    let submitted = operator.submit(action, Wait::Certified);
    let within = tokio::time::timeout(SERVES_WITHIN, submitted).await;
    let Ok(submitted) = within else {
        return Err(DevnetError::NotRefused(format!(
            "no service within {SERVES_WITHIN:?}"
        )));
    };
    submitted.map_err(DevnetError::client("a transaction after the attack"))?;
    let ms = begun.elapsed().as_millis();
    Ok(format!("the next transaction is certified after {ms} ms"))
}

/// Checks that every honest node runs, serves and accuses no honest one.
async fn agree(devnet: &mut Devnet, liar: &Liar) -> Result<(), DevnetError> {
    for at in 0..liar.honest {
        devnet.ready(at).await?;
        let status: Status = devnet
            .client_at("auditor", at)?
            .status()
            .await
            .map_err(DevnetError::client("asking for the status"))?;
        let accused = status.alarms.iter().find(|raised| match &raised.alarm {
            NodeAlarmKind::Equivocation { node, .. } | NodeAlarmKind::ValidatorNoVoter { node } => {
                *node != liar.node
            }
            NodeAlarmKind::DoubleAttestation { .. }
            | NodeAlarmKind::Divergence { .. }
            | NodeAlarmKind::LeaderNoElector { .. }
            | NodeAlarmKind::VoidBatch { .. }
            | NodeAlarmKind::EarlyBatch { .. }
            | NodeAlarmKind::LogsDiffer { .. }
            | NodeAlarmKind::DamagedArtifact { .. }
            | NodeAlarmKind::NewerProtocol { .. } => true,
            NodeAlarmKind::ClockOffset { .. }
            | NodeAlarmKind::ClockDiffers { .. }
            | NodeAlarmKind::DiskFull { .. } => false,
        });
        if let Some(accused) = accused {
            return Err(DevnetError::NotRefused(accused.message.clone()));
        }
        if let Some(halted) = status.halted {
            return Err(DevnetError::NotRefused(halted));
        }
    }
    Ok(())
}
