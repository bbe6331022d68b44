//! `doctor`: what is wrong with a node, before its start and while it runs, and what to do. It asks
//! the machine, the files and the other nodes themselves, and changes nothing.

mod files;
mod machine;
mod nodes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lamplighter_node::NodeConfig;
use lamplighter_system::error_chain;
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, emit, emit_members, print};
use crate::session::SessionArguments;

#[derive(Debug, Args)]
pub struct Doctor {
    /// The configuration file of the node (TOML).
    #[arg(long)]
    config: PathBuf,
    /// The longest median time of a sync of the disk without a warning, in milliseconds.
    #[arg(long, default_value_t = 20)]
    sync_ms_max: u64,
}

/// How bad a finding is; in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Good,
    Warning,
    Fault,
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    severity: Severity,
    found: String,
    /// For the operator; none if it is good.
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Good,
            found: found.into(),
            remedy: None,
        }
    }

    fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            remedy: Some(remedy.into()),
            ..Self::good(check, found)
        }
    }

    fn fault(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fault,
            ..Self::warning(check, found, remedy)
        }
    }

    fn print(&self) {
        let severity = match self.severity {
            Severity::Good => "good",
            Severity::Warning => "WARNING",
            Severity::Fault => "FAULT",
        };
        emit(&format!("{severity:7}  {:11}  {}", self.check, self.found));
        if let Some(remedy) = &self.remedy {
            emit(&format!("{:22}do: {remedy}", ""));
        }
    }
}

impl Doctor {
    /// Exit code 1 if there is a fault.
    pub async fn carry_out(&self, session: &SessionArguments) -> Result<ExitCode, Failure> {
        let findings = match NodeConfig::read(&self.config) {
            Ok(config) => self.examine(&config, session.nodes_option()).await?,
            Err(error) => vec![Finding::fault(
                "settings",
                error_chain(&error).to_string(),
                "correct the file; docs/configuration.md has every key",
            )],
        };
        report(&findings, session.output());
        let is_faulty = findings.iter().any(|f| f.severity == Severity::Fault);
        Ok(ExitCode::from(u8::from(is_faulty)))
    }

    async fn examine(&self, config: &NodeConfig, urls: &[String]) -> Result<Vec<Finding>, Failure> {
        let mut findings = vec![Finding::good(
            "settings",
            format!("{} is usable", self.config.display()),
        )];
        findings.extend(files::examine(config));
        findings.extend(machine::disk(config, self.sync_ms_max));
        let genesis = config.read_genesis().ok();
        let local = nodes::running(config).await?;
        findings.push(machine::ports(config, local.is_some()));
        if let Some(genesis) = genesis {
            findings.extend(nodes::examine(config, &genesis, urls, local).await?);
        }
        Ok(findings)
    }
}

fn report(findings: &[Finding], output: Output) {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (faults, warnings) = (count(Severity::Fault), count(Severity::Warning));
    if output.json {
        return print(&json!({ "faults": faults, "warnings": warnings, "findings": findings }));
    }
    findings.iter().for_each(Finding::print);
    emit("");
    emit_members(&[
        ("faults", faults.to_string()),
        ("warnings", warnings.to_string()),
    ]);
}
