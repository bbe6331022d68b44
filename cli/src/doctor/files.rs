//! The files of a node: its genesis file, its key, who may read them, and certificates.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use lamplighter_node::{CertificateFiles, HttpTls, KeyError, NodeConfig, key};
use lamplighter_system::{error_chain, unix_ms};
use lamplighter_tls::valid_seconds;
use lamplighter_types::{Genesis, PublicKey};

use super::Finding;

/// Days before the end of a certificate from which on the operator is warned: what authorities
/// that renew by themselves leave at least.
const EXPIRY_DAYS: i64 = 14;
const DAY_S: i64 = 86_400;
/// Bits of a mode that let others read, write or run.
const OTHERS: u32 = 0o077;
/// Bits of a mode that let others write.
const OTHERS_WRITE: u32 = 0o022;

pub fn examine(config: &NodeConfig) -> Vec<Finding> {
    let secret = key::read(&config.key);
    let mut findings = vec![match &secret {
        Ok(_) => owners(config),
        Err(error) => key_fault(config, error),
    }];
    let public = secret.ok().map(|secret| secret.public());
    findings.push(genesis(config, public));
    findings.push(data(config));
    findings.extend(certificate(config));
    findings
}

fn key_fault(config: &NodeConfig, error: &KeyError) -> Finding {
    let path = config.key.display();
    let remedy = match error {
        KeyError::Exposed { .. } => {
            format!("chmod 600 {path}; if others read it, replace the node")
        }
        KeyError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            "make it with `lamplighter node init`, or set `key` to where it is".to_owned()
        }
        KeyError::Read { .. } => "run this as root, or as the user of the service".to_owned(),
        _ => "put the right file there; a lost key means a new node (`node join`)".to_owned(),
    };
    Finding::fault("key", error_chain(error).to_string(), remedy)
}

/// The service runs as the user who has the folder of the key.
fn owners(config: &NodeConfig) -> Finding {
    let folder = config.key.parent().unwrap_or(Path::new("."));
    let around = match fs::metadata(folder) {
        Ok(around) => around,
        Err(error) => return unreadable("key", folder, &error),
    };
    for path in [&config.key, &config.data_dir] {
        let owner = fs::metadata(path).map(|metadata| metadata.uid());
        if owner.is_ok_and(|owner| owner != around.uid()) {
            let (path, user) = (path.display(), around.uid());
            return Finding::fault(
                "key",
                format!("{path} does not belong to the user {user}, who has its folder"),
                format!("chown -R {user}:{} {}", around.gid(), folder.display()),
            );
        }
    }
    if writable_by_others(&around) {
        return Finding::fault(
            "key",
            format!(
                "others may write to {}, and replace the key",
                folder.display()
            ),
            format!("chmod go-w {}", folder.display()),
        );
    }
    Finding::good(
        "key",
        format!("{} is its owner's alone", config.key.display()),
    )
}

fn writable_by_others(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & OTHERS_WRITE != 0
}

fn unreadable(check: &'static str, path: &Path, error: &io::Error) -> Finding {
    Finding::fault(
        check,
        format!("{} can't be read: {error}", path.display()),
        "run this as root, or as the user of the service",
    )
}

/// The genesis file, and whether it names this node with this key.
fn genesis(config: &NodeConfig, key: Option<PublicKey>) -> Finding {
    let genesis = match config.read_genesis() {
        Ok(genesis) => genesis,
        Err(error) => {
            return Finding::fault(
                "genesis",
                error_chain(&error).to_string(),
                "copy the genesis file of the ledger there; all nodes have the same",
            );
        }
    };
    if let Err(error) = genesis.check() {
        return Finding::fault(
            "genesis",
            error_chain(&error).to_string(),
            "get the file again from the party that made it, and compare the chain id",
        );
    }
    match key {
        Some(key) => membership(config, &genesis, key),
        None => Finding::good("genesis", format!("chain {}", genesis.chain_id())),
    }
}

fn membership(config: &NodeConfig, genesis: &Genesis, key: PublicKey) -> Finding {
    let (node, file) = (config.node, config.key.display());
    let set = &genesis.validators;
    match (set.by_node(node), set.by_key(&key)) {
        (Some(named), _) if named.key == key => Finding::good(
            "genesis",
            format!("chain {}, this is node {node} of it", genesis.chain_id()),
        ),
        (_, Some(owner)) => Finding::fault(
            "genesis",
            format!(
                "the key in {file} is that of node {}, not of node {node}",
                owner.node
            ),
            format!(
                "set node = {}, or put the key of node {node} there",
                owner.node
            ),
        ),
        (Some(named), None) => Finding::fault(
            "genesis",
            format!(
                "node {node} has the key {} there, and {file} has {key}",
                named.key
            ),
            "the file is another node's, or the genesis file another city's: compare the chain id",
        ),
        (None, None) => Finding::warning(
            "genesis",
            format!("it does not name node {node}"),
            "let the administrators add it: `lamplighter node join` prints the proposal",
        ),
    }
}

/// The data directory: that of the key, and nobody else's to write to.
fn data(config: &NodeConfig) -> Finding {
    let dir = &config.data_dir;
    if let Err(error) = lamplighter_node::require_data(&config.key, dir) {
        let remedy = "set data_dir to where it is; if it is lost: `lamplighter node join`";
        return Finding::fault("data", error_chain(&error).to_string(), remedy);
    }
    match fs::metadata(dir) {
        Ok(metadata) if writable_by_others(&metadata) => Finding::fault(
            "data",
            format!("others may write to {}", dir.display()),
            format!("chmod go-w {}", dir.display()),
        ),
        Ok(_) => Finding::good("data", format!("{} is there", dir.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::good(
            "data",
            format!("{} is made at the first start", dir.display()),
        ),
        Err(error) => unreadable("data", dir, &error),
    }
}

/// The certificate files of the HTTP interface, if it has any.
fn certificate(config: &NodeConfig) -> Option<Finding> {
    let HttpTls::Files(CertificateFiles { certificate, key }) = &config.http.tls else {
        return None;
    };
    let read = |path: &Path| fs::read(path).map_err(|e| unreadable("certificate", path, &e));
    let (chain, secret) = match (read(certificate), read(key)) {
        (Ok(chain), Ok(secret)) => (chain, secret),
        (Err(finding), _) | (_, Err(finding)) => return Some(finding),
    };
    let mode = fs::metadata(key).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & OTHERS & !0o040 != 0) {
        return Some(Finding::fault(
            "certificate",
            format!("others can read {}", key.display()),
            format!("chmod 640 {}", key.display()),
        ));
    }
    Some(match valid_seconds(&chain, &secret) {
        Err(error) => Finding::fault(
            "certificate",
            format!("{}: {}", certificate.display(), error_chain(&error)),
            "put a chain and its key there, in PEM",
        ),
        Ok(valid) => validity(certificate, *valid.start(), *valid.end()),
    })
}

fn validity(file: &Path, from_s: i64, until_s: i64) -> Finding {
    let now_s = i64::try_from(unix_ms() / 1_000).unwrap_or(i64::MAX);
    let file = file.display();
    let renew = "renew it; the node shows new files within seconds";
    match (until_s - now_s).div_euclid(DAY_S) {
        _ if now_s < from_s => Finding::fault(
            "certificate",
            format!("{file} is not valid yet"),
            "compare this machine's clock",
        ),
        days if days < 0 => Finding::fault(
            "certificate",
            format!("{file} expired {} days ago", -days),
            renew,
        ),
        days if days < EXPIRY_DAYS => Finding::warning(
            "certificate",
            format!("{file} expires in {days} days"),
            renew,
        ),
        days => Finding::good("certificate", format!("{file} is valid for {days} days")),
    }
}
