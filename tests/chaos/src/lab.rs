//! A network of this run's own: a namespace for each node and one with the bridge that joins them,
//! in which the clients are too. Nothing of it is seen by the rest of the machine.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::ChaosError;
use crate::links::{Link, Links};

/// What the names of all namespaces of this tool begin with; the process id follows.
const PREFIX: &str = "lamplighter-chaos-";
/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// The namespaces of a run; they go when it is dropped.
#[derive(Debug)]
pub struct Lab {
    nodes: usize,
    owner: u32,
}

/// The address of a node, counted from 0. The network is the run's own, so it can't collide.
pub fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, node as u8 + 1)
}

/// Where the clients are.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

impl Lab {
    /// Removes what earlier runs that crashed have left, makes the namespaces and joins them.
    ///
    /// # Errors
    /// [`ChaosError::Namespaces`] when the system does not let us.
    pub fn build(nodes: usize) -> Result<Self, ChaosError> {
        remove_left_overs()?;
        let owner = std::process::id();
        let lab = Self { nodes, owner };
        lab.join()
            .map_err(|error| ChaosError::Namespaces(Box::new(error)))?;
        Ok(lab)
    }

    fn join(&self) -> Result<(), ChaosError> {
        let bridge = self.bridge();
        run("ip", &["netns", "add", &bridge])?;
        let in_bridge = |arguments: &str| ip_in(&bridge, arguments);
        in_bridge("link set lo up")?;
        in_bridge("link add br0 type bridge")?;
        in_bridge(&format!("addr add {CLIENTS}/24 dev br0"))?;
        in_bridge("link set br0 up")?;
        for node in 0..self.nodes {
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

    /// Moves the calling thread, and all that it starts from now on, to where the clients are.
    pub fn enter(&self) -> Result<(), ChaosError> {
        let name = self.bridge();
        let failed = |source| ChaosError::Enter(name.clone(), source);
        let namespace = File::open(format!("{NAMES}/{name}")).map_err(failed)?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))
    }

    /// Makes the links between the nodes what they are said to be, in one step for each node.
    pub fn apply(&self, links: &Links) -> Result<(), ChaosError> {
        for node in 0..self.nodes {
            let rules = rules(node, links);
            let name = self.namespace(node);
            feed("ip", &["netns", "exec", &name, "nft", "-f", "-"], &rules)?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let nodes = (0..self.nodes).map(|node| self.namespace(node));
        for name in nodes.chain([self.bridge()]) {
            if let Err(error) = remove(&name) {
                eprintln!("chaos: {error}");
            }
        }
    }
}

/// What a node's own filter drops of what comes in.
fn rules(node: usize, links: &Links) -> String {
    let mut rules = String::from(
        "table ip chaos\ndelete table ip chaos\ntable ip chaos {\n chain in {\n\
         type filter hook input priority 0; policy accept;\n",
    );
    let mut from = |address: Ipv4Addr, link: Link| match link {
        Link::Whole => {}
        Link::Cut => rules += &format!("ip saddr {address} drop\n"),
        Link::Lossy { percent } => {
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
    feed(program, arguments, "")
}

/// Runs a program with a text as its input.
fn feed(program: &str, arguments: &[&str], input: &str) -> Result<(), ChaosError> {
    let failed = |said: String| ChaosError::Command {
        command: format!("{program} {}", arguments.join(" ")),
        said,
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

/// Ends what still runs in a namespace of this tool, which this tool started there, and removes it.
fn remove(name: &str) -> Result<(), ChaosError> {
    if !std::path::Path::new(NAMES).join(name).exists() {
        return Ok(());
    }
    let listed = Command::new("ip").args(["netns", "pids", name]).output();
    let listed = listed.map_err(ChaosError::file("listing the processes of", name))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for pid in text.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if pid != std::process::id() as i32 {
            // It may have ended meanwhile.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
    run("ip", &["netns", "del", name])
}

/// Removes the namespaces of runs whose process is gone.
fn remove_left_overs() -> Result<(), ChaosError> {
    let entries = match fs::read_dir(NAMES) {
        Ok(entries) => entries,
        // Nobody has made a namespace here yet.
        Err(_) => return Ok(()),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let gone = |pid: u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
        if owner.is_some_and(gone) {
            remove(&name)?;
        }
    }
    Ok(())
}
