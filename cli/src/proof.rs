//! `proof get` and `proof validators`, and the printed form of a proven record.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::Subject;
use lamplighter_types::proof::{
    ProofFile, ProvenSubject, SignedChange, Signer, Statement, TrustedSet,
};
use lamplighter_types::{AlarmId, ConfigTarget, Hash, Id, Scope, Validator};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::keys::write_new;
use crate::output::{Output, emit, print};
use crate::session::{Session, asking};
use crate::time::utc;

#[derive(Debug, Subcommand)]
pub enum ProofCommand {
    /// Fetches a proof, checks it against the genesis file, prints what it proves, and writes it to
    /// a file.
    Get {
        /// The file to write (JSON).
        #[arg(long, global = true, default_value = "proof.json")]
        out: PathBuf,
        #[command(subcommand)]
        subject: SubjectCommand,
    },
    /// Fetches the changes of the validators since those of `--trusted`, checks and prints the
    /// newest validators; with `--update-trusted` they are written to the file.
    Validators,
}

#[derive(Debug, Subcommand)]
pub enum SubjectCommand {
    /// A proof that a transaction is in its block, with its action.
    Transaction { transaction: Hash },
    /// The receipt of a transaction.
    Receipt { transaction: Hash },
    /// The record of a device.
    Device { device: Id },
    /// The image that a device runs.
    DeviceState { device: Id },
    /// The record of a release, with its approvals.
    Release { release: Id },
    /// The record of a rollout, with its plan and counts.
    Rollout { rollout: Id },
    /// The steps of a device in a rollout.
    Deployment { rollout: Id, device: Id },
    /// The record of an account, with its keys and roles.
    User { user: Id },
    /// The record of an organization.
    Organization { organization: Id },
    /// An alarm, by its device and the event that raised it.
    Alarm { device: Id, sequence: u64 },
    /// The desired document of a target; of the whole fleet without one.
    Config {
        #[arg(long, conflicts_with_all = ["district", "device"])]
        model: Option<String>,
        #[arg(long, conflicts_with = "device")]
        district: Option<Scope>,
        #[arg(long)]
        device: Option<Id>,
    },
    /// An event, by its block and its place there.
    Event { height: u64, index: u32 },
}

impl From<SubjectCommand> for Subject {
    fn from(command: SubjectCommand) -> Self {
        match command {
            SubjectCommand::Transaction { transaction } => Self::Transaction(transaction),
            SubjectCommand::Receipt { transaction } => Self::Receipt(transaction),
            SubjectCommand::Device { device } => Self::Device(device),
            SubjectCommand::DeviceState { device } => Self::DeviceState(device),
            SubjectCommand::Release { release } => Self::Release(release),
            SubjectCommand::Rollout { rollout } => Self::Rollout(rollout),
            SubjectCommand::Deployment { rollout, device } => Self::Deployment { rollout, device },
            SubjectCommand::User { user } => Self::User(user),
            SubjectCommand::Organization { organization } => Self::Organization(organization),
            SubjectCommand::Alarm { device, sequence } => Self::Alarm(AlarmId { device, sequence }),
            SubjectCommand::Config {
                model,
                district,
                device,
            } => Self::Config(match (model, district, device) {
                (Some(model), ..) => ConfigTarget::Model { model },
                (_, Some(district), _) => ConfigTarget::District { district },
                (.., Some(device)) => ConfigTarget::Device { device },
                (None, None, None) => ConfigTarget::Fleet,
            }),
            SubjectCommand::Event { height, index } => Self::Event { height, index },
        }
    }
}

pub async fn carry_out(session: &Session, command: ProofCommand) -> Result<ExitCode, Failure> {
    if session.genesis.is_none() {
        return Err(Failure::plain(
            "a proof is checked against the genesis file: give --genesis",
        ));
    }
    match command {
        ProofCommand::Get { out, subject } => get(session, out, subject).await,
        ProofCommand::Validators => validators(session).await,
    }
}

async fn get(
    session: &Session,
    out: PathBuf,
    subject: SubjectCommand,
) -> Result<ExitCode, Failure> {
    if out.exists() {
        let words = format!("{} exists already: give another --out", out.display());
        return Err(Failure::plain(words));
    }
    let before = session.client.trusted().map_err(asking)?.height;
    let (bundle, proven) = session
        .client
        .proof(&subject.into())
        .await
        .map_err(asking)?;
    let statement = Statement::of(&bundle, &proven, before)
        .map_err(Failure::during("the proof holds and can't be read"))?;
    let file = ProofFile::new(bundle, &statement).to_json();
    write_new(&out, file.as_ref())?;
    print_statement(&statement, json!({ "file": out }), session.output);
    let trusted = session.client.trusted().map_err(asking)?;
    report_trusted(
        session.updated_file.as_deref(),
        before,
        &trusted,
        session.output,
    );
    Ok(ExitCode::SUCCESS)
}

async fn validators(session: &Session) -> Result<ExitCode, Failure> {
    let before = session.client.trusted().map_err(asking)?.height;
    let trusted = session.client.follow_validators().await.map_err(asking)?;
    if session.output.json {
        print(&json!(trusted));
        return Ok(ExitCode::SUCCESS);
    }
    let since = match trusted.height {
        0 => "the validators of the genesis file are in force".to_owned(),
        height => format!("these validators are in force since block {height}"),
    };
    emit(&format!("{since}, digest {}", trusted.set.hash()));
    for Validator {
        node, account, key, ..
    } in &trusted.set.validators
    {
        emit(&format!("{account} (node {node}), key {key}"));
    }
    report_trusted(
        session.updated_file.as_deref(),
        before,
        &trusted,
        session.output,
    );
    Ok(ExitCode::SUCCESS)
}

/// Prints that newer validators were written to the file of `--trusted`.
pub fn report_trusted(file: Option<&Path>, before: u64, trusted: &TrustedSet, output: Output) {
    let Some(file) = file.filter(|_| !output.json) else {
        return;
    };
    let (file, now) = (file.display(), trusted.height);
    emit(&match now {
        _ if now > before => format!("{file} has the validators of height {now}, before {before}"),
        0 => "the validators of the genesis file are the newest".to_owned(),
        _ => format!("{file} stays: the validators of height {now} are the newest"),
    });
}

/// Prints what was proven; as JSON with the members of `more`.
pub fn print_statement(statement: &Statement, more: Value, output: Output) {
    if output.json {
        let mut printed = json!(statement);
        printed["holds"] = true.into();
        if let (Some(printed), Value::Object(more)) = (printed.as_object_mut(), more) {
            printed.extend(more);
        }
        return print(&printed);
    }
    let Statement {
        subject,
        record,
        height,
        time_ms,
        head: _,
        head_height,
        head_time_ms,
        signers,
        trusted_height,
        set_changes,
    } = statement;
    emit(&format!("holds: {}", describe(subject, record)));
    emit(&format!("in block {height} of {}", utc(*time_ms)));
    emit(&format!(
        "under the head {head_height} of {}, signed by {}",
        utc(*head_time_ms),
        names(signers)
    ));
    if *trusted_height > 0 {
        emit(&format!(
            "trusted before: the validators of height {trusted_height}"
        ));
    }
    for SignedChange {
        height,
        time_ms,
        signers,
    } in set_changes
    {
        emit(&format!(
            "validators changed after block {height} of {}, signed by {}",
            utc(*time_ms),
            names(signers)
        ));
    }
    if !record.is_null() {
        print(record);
    }
}

fn names(signers: &[Signer]) -> String {
    let name = |signer: &Signer| format!("{} (node {})", signer.account, signer.node);
    let names: Vec<_> = signers.iter().map(name).collect();
    names.join(", ")
}

/// The kind of the record and its key.
fn describe(subject: &ProvenSubject, record: &Value) -> String {
    match subject {
        ProvenSubject::State(key) if record.is_null() => format!("there is no {key}"),
        ProvenSubject::State(key) => key.to_string(),
        ProvenSubject::Block(part) => part.to_string(),
    }
}
