//! A hostile node, which `make chaos` starts beside honest ones.

use std::process::ExitCode;

use clap::Parser;
use lamplighter_devnet::hostile::{self, HostileOptions};
use lamplighter_system::error_chain;

fn main() -> ExitCode {
    let options = HostileOptions::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let done = runtime.block_on(hostile::run(&options));
    runtime.shutdown_background();
    match done {
        Ok(summary) => {
            println!("{:?} by node {}: {summary:?}", options.attack, options.node);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hostile: {}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}
