//! `key`: secret keys in files, and what is written beside them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_node::key;
use lamplighter_types::{Grant, Id, KeyPurpose, PublicKey, Role, Scope, Signature};
use serde_json::json;

use crate::failure::Failure;
use crate::session::SessionArguments;

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a secret key in a new file that only its owner can read, and prints the public key.
    New { file: PathBuf },
    /// Prints the public key of a file.
    Show { file: PathBuf },
    /// Prints the proof of possession with which this key is registered. It needs the genesis file.
    Prove {
        file: PathBuf,
        /// The account or device that gets the key.
        #[arg(long = "for")]
        subject: Id,
        /// The account is that of a node, e.g. `node-5`.
        #[arg(long, conflicts_with = "device")]
        node: bool,
        /// It is a device.
        #[arg(long)]
        device: bool,
    },
}

/// A key that enters the ledger.
#[derive(Clone, Debug, Args)]
pub struct NewKey {
    #[arg(long = "public-key")]
    pub public_key: PublicKey,
    /// The key's proof of possession, as `key prove` prints it.
    #[arg(long)]
    pub proof: Signature,
}

pub fn key(command: KeyCommand, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let secret = match command {
        KeyCommand::New { file } => {
            let secret = key::generate().map_err(Failure::during("making a key"))?;
            key::write(&file, &secret).map_err(Failure::during("writing the key"))?;
            secret
        }
        KeyCommand::Show { file } => {
            key::read(&file).map_err(Failure::during("reading the key"))?
        }
        KeyCommand::Prove {
            file,
            subject,
            node,
            device,
        } => {
            let secret = key::read(&file).map_err(Failure::during("reading the key"))?;
            let purpose = match (node, device) {
                (true, _) => KeyPurpose::Node,
                (false, true) => KeyPurpose::Device,
                (false, false) => KeyPurpose::Account,
            };
            let chain_id = session.read_genesis()?.chain_id();
            let proof = secret.prove(purpose, &chain_id, &subject).to_string();
            session.output().answer(&json!({ "proof": proof }), &proof);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let public = secret.public().to_string();
    session.output().answer(&json!({ "key": public }), &public);
    Ok(ExitCode::SUCCESS)
}

/// Reads `role` or `role@district`.
pub fn grant(text: &str) -> Result<Grant, Failure> {
    let (role, scope) = text.split_once('@').unwrap_or((text, ""));
    let quoted = |what: &str, text: &str| format!("the {what} \"{}\"", text.escape_debug());
    let role: Role =
        serde_json::from_value(json!(role)).map_err(Failure::during(quoted("role", role)))?;
    let scope = Scope::new(scope).map_err(Failure::during(quoted("district", scope)))?;
    Ok(Grant::founding(role, scope))
}

/// Writes a file that must not exist yet.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let shown = path.display();
    let made = fs::File::create_new(path);
    match made.and_then(|mut file| file.write_all(bytes)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::plain(format!("{shown} exists already")))
        }
        written => written.map_err(Failure::during(format!("writing {shown}"))),
    }
}
