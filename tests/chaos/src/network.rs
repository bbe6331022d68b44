//! The network of a run: a namespace for each node and one with the bridge between them, in which
//! the clients are too. It is invisible to the rest of the machine.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::ChaosError;
use crate::links::{LinkState, Links};

/// Prefix of the names of all namespaces of this tool; the process id follows.
const PREFIX: &str = "lamplighter-chaos-";
/// The folder of the names of `ip netns`.
const NAMES: &str = "/run/netns";

/// The namespaces of a run; they are removed when it is dropped.
#[derive(Debug)]
pub struct TestNetwork {
    nodes: usize,
    /// Nodes after these whose links are never cut.
    hostile: usize,
    owner: u32,
}

/// The address of a node, counted from 0. It cannot collide in the separate network.
pub fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, node as u8 + 1)
}

/// The address of the clients.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

impl TestNetwork {
    /// Removes the namespaces of crashed runs, creates those of this run and connects them.
    ///
    /// # Errors
    /// [`ChaosError::Namespaces`] if the system does not permit it.
    pub fn build(nodes: usize, hostile: usize) -> Result<Self, ChaosError> {
        remove_abandoned()?;
        let owner = std::process::id();
        let network = Self {
            nodes,
            hostile,
            owner,
        };
        network
            .connect()
            .map_err(|error| ChaosError::Namespaces(Box::new(error)))?;
        Ok(network)
    }

    fn connect(&self) -> Result<(), ChaosError> {
        let bridge = self.bridge();
        run("ip", &["netns", "add", &bridge])?;
        let in_bridge = |arguments: &str| ip_in(&bridge, arguments);
        in_bridge("link set lo up")?;
        in_bridge("link add br0 type bridge")?;
        in_bridge(&format!("addr add {CLIENTS}/24 dev br0"))?;
        in_bridge("link set br0 up")?;
        for node in 0..self.nodes + self.hostile {
            let name = self.namespace(node);
            run("ip", &["netns", "add", &name])?;
            in_bridge(&format!(
                "link add n{node} type veth peer name eth0 netns {name}"
            ))?;
            in_bridge(&format!("link set n{node} master br0 up"))?;
            ip_in(&name, "link set lo up")?;
            ip_in(&name, &format!("addr add {}/24 dev eth0", address(node)))?;
            ip_in(&name, "link set eth0 up")?;
        }
        self.apply(&Links::whole(self.nodes))
    }

    /// The namespace of a node.
    pub fn namespace(&self, node: usize) -> String {
        format!("{PREFIX}{}-node{node}", self.owner)
    }

    fn bridge(&self) -> String {
        format!("{PREFIX}{}-bridge", self.owner)
    }

    /// Moves the calling thread, and all that it starts from now on, into the namespace of the
    /// clients.
    pub fn enter(&self) -> Result<(), ChaosError> {
        let name = self.bridge();
        let failed = |source| ChaosError::Enter(name.clone(), source);
        let namespace = File::open(format!("{NAMES}/{name}")).map_err(failed)?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))
    }

    /// Applies the states of all links, in one step for each node.
    pub fn apply(&self, links: &Links) -> Result<(), ChaosError> {
        for node in 0..self.nodes {
            let rules = rules(node, links);
            let name = self.namespace(node);
            run_with_input("ip", &["netns", "exec", &name, "nft", "-f", "-"], &rules)?;
        }
        Ok(())
    }
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        let nodes = (0..self.nodes + self.hostile).map(|node| self.namespace(node));
        for name in nodes.chain([self.bridge()]) {
            if let Err(error) = remove(&name) {
                eprintln!("chaos: {error}");
            }
        }
    }
}

/// The packet filter of a node, which drops incoming packets by the states of its links.
fn rules(node: usize, links: &Links) -> String {
    let mut rules = String::from(
        "table ip chaos\ndelete table ip chaos\ntable ip chaos {\n chain in {\n\
         type filter hook input priority 0; policy accept;\n",
    );
    let mut from = |address: Ipv4Addr, link: LinkState| match link {
        LinkState::Whole => {}
        LinkState::Cut => rules += &format!("ip saddr {address} drop\n"),
        LinkState::Lossy { percent } => {
            rules += &format!("ip saddr {address} numgen random mod 100 < {percent} drop\n");
        }
    };
    for peer in (0..links.nodes()).filter(|peer| *peer != node) {
        from(address(peer), links.between(peer, node));
    }
    from(CLIENTS, links.from_clients(node));
    rules + " }\n}\n"
}

fn ip_in(namespace: &str, arguments: &str) -> Result<(), ChaosError> {
    let all: Vec<&str> = ["-n", namespace]
        .into_iter()
        .chain(arguments.split(' '))
        .collect();
    run("ip", &all)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), ChaosError> {
    run_with_input(program, arguments, "")
}

/// Runs a program with a text as its input.
fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<(), ChaosError> {
    let failed = |stderr: String| ChaosError::Command {
        command: format!("{program} {}", arguments.join(" ")),
        stderr,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let written = child
        .stdin
        .take()
        .expect("it was asked for")
        .write_all(input.as_bytes());
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    match (output.status.success(), written) {
        (true, Ok(())) => Ok(()),
        (true, Err(error)) => Err(failed(error.to_string())),
        (false, _) => Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}

/// Kills the processes of this tool in one of its namespaces, and removes the namespace.
fn remove(name: &str) -> Result<(), ChaosError> {
    if !std::path::Path::new(NAMES).join(name).exists() {
        return Ok(());
    }
    let listed = Command::new("ip").args(["netns", "pids", name]).output();
    let listed = listed.map_err(ChaosError::file("listing the processes of", name))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for pid in text.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if pid != std::process::id() as i32 {
            // The process may have ended meanwhile.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
    run("ip", &["netns", "del", name])
}

/// Removes the namespaces of runs whose process has ended.
fn remove_abandoned() -> Result<(), ChaosError> {
    let entries = match fs::read_dir(NAMES) {
        Ok(entries) => entries,
        // There has been no namespace on this machine yet.
        Err(_) => return Ok(()),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let has_ended = |pid: u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
        if owner.is_some_and(has_ended) {
            remove(&name)?;
        }
    }
    Ok(())
}
