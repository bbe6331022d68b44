//! `reference`: the pages of the manual and the completions of shells, made of what the program
//! knows of its commands, so that they agree with it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate_to};

use crate::Arguments;
use crate::failure::Failure;

/// The shells with completions in the package.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

#[derive(Debug, Args)]
pub struct Reference {
    /// The folder to write to; the pages are in `man` in it.
    folder: PathBuf,
}

impl Reference {
    pub fn write(&self) -> Result<ExitCode, Failure> {
        let writing = || Failure::during(format!("writing to {}", self.folder.display()));
        let pages = self.folder.join("man");
        fs::create_dir_all(&pages).map_err(writing())?;
        clap_mangen::generate_to(Arguments::command(), &pages).map_err(writing())?;
        for shell in SHELLS {
            let mut command = Arguments::command();
            generate_to(shell, &mut command, "lamplighter", &self.folder).map_err(writing())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
