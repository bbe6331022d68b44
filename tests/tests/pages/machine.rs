//! A machine of a cluster: a root of its own over that of this one, which it does not change, and
//! a network of its own on a bridge. Both belong to the thread that made them and to what it
//! started, and end with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::package::done;
use crate::shell::Shell;

/// For a service to be ready, and to give a sign of life, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The watchdog of the services in the test; theirs is a minute.
const WATCHDOG_US: u64 = 3_000_000;
/// The longest message of a service.
const NOTE_BYTES_MAX: usize = 4_096;

/// The folder that all machines see; in memory, and mounted for the test alone. Nothing of it has
/// to be removed, and nothing may be: the roots of the machines in it show parts of this one.
pub const SHARED: &str = "/mnt";

/// Gives the calling thread a network with a bridge, and mounts that nobody else sees.
pub fn isolate() {
    let apart = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    unshare(apart).expect("tests of machines need root, as those of namespaces do");
    done(Command::new("mount").args(["--make-rprivate", "/"]));
    done(Command::new("mount").args(["-t", "tmpfs", "tmpfs", SHARED]));
    ip("link add br0 type bridge");
    ip("link set br0 up");
}

fn ip(arguments: &str) {
    done(Command::new("ip").args(arguments.split(' ')));
}

pub struct Machine {
    pub shell: Shell,
    /// The folder in which its commands run.
    pub home: PathBuf,
    /// Where this test sees its files.
    pub root: PathBuf,
    services: Vec<Service>,
}

/// A service as its unit describes it.
struct Service {
    child: Child,
    notes: UnixDatagram,
}

impl Machine {
    /// Machine `number` with its home in the shared folder.
    pub fn start(number: usize) -> Self {
        let folder = Path::new(SHARED);
        let home = folder.join(format!("home-{number}"));
        let overlay = folder.join(format!("overlay-{number}"));
        let place = |name: &str| overlay.join(name);
        let root = place("root");
        for made in [&home, &place("upper"), &place("work"), &root] {
            fs::create_dir_all(made).unwrap();
        }
        let options = format!(
            "lowerdir=/,upperdir={},workdir={}",
            place("upper").display(),
            place("work").display()
        );
        let mut mount = Command::new("mount");
        done(
            mount
                .args(["-t", "overlay", "overlay", "-o", &options])
                .arg(&root),
        );
        for shared in [Path::new("/proc"), Path::new("/dev"), folder] {
            let inside = root.join(shared.strip_prefix("/").unwrap());
            done(Command::new("mount").arg("--bind").arg(shared).arg(inside));
        }
        let shell = Shell::within(into(&root, "bash".as_ref()), &home);
        let mut machine = Self {
            shell,
            home,
            root,
            services: Vec::new(),
        };
        machine.connect(number);
        machine
    }

    fn connect(&mut self, number: usize) {
        ip(&format!(
            "link add m{number} type veth peer name eth0 netns {}",
            self.shell.pid()
        ));
        ip(&format!("link set m{number} master br0 up"));
        for command in [
            format!("cd {}", self.home.display()),
            "ip link set lo up".to_owned(),
            format!("ip addr add 10.77.0.{number}/24 dev eth0"),
            "ip link set eth0 up".to_owned(),
            // What a new machine does not have.
            "test ! -e /usr/bin/lamplighter && test ! -e /var/lib/lamplighter".to_owned(),
            "export DEBIAN_FRONTEND=noninteractive".to_owned(),
        ] {
            self.run(&command);
        }
    }

    /// Runs a command of the page, which must succeed; returns what it printed.
    pub fn run(&mut self, command: &str) -> String {
        if let Some(unit) = command.strip_prefix("systemctl enable --now ") {
            self.start_service(unit);
            return String::new();
        }
        let (code, printed) = self.shell.run(command);
        assert_eq!(code, 0, "{}: {command}\n{printed}", self.home.display());
        printed
    }

    /// Does what systemd does with the unit, which a container does not have: starts its command as
    /// its user with its environment, and waits until the service says that it is ready.
    fn start_service(&mut self, unit: &str) {
        let file = self.root.join(format!("lib/systemd/system/{unit}.service"));
        let unit = settings(&fs::read_to_string(file).unwrap());
        assert_eq!(unit["Type"], ["notify"]);
        let socket = self.home.join("notify");
        let notes = UnixDatagram::bind(&socket).unwrap();
        notes.set_read_timeout(Some(TIMEOUT)).unwrap();
        for (path, mode) in [(&self.home, 0o755), (&socket, 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let user = &unit["User"][0];
        let mut command = enter(self.shell.pid(), &self.root, "setpriv".as_ref());
        command.args([
            "--reuid",
            user,
            "--regid",
            &unit["Group"][0],
            "--init-groups",
        ]);
        command.args(["--no-new-privs", "--bounding-set=-all", "env", "-i"]);
        command.args(&unit["Environment"]);
        command.arg(format!("NOTIFY_SOCKET={}", socket.display()));
        command.arg(format!("WATCHDOG_USEC={WATCHDOG_US}"));
        command.args(unit["ExecStart"][0].split(' '));
        let log = fs::File::create(self.home.join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let service = Service { child, notes };
        let first = service.next_note();
        assert!(
            first.starts_with("READY=1\nSTATUS="),
            "{first}: {}",
            self.log()
        );
        self.services.push(service);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Each service gives signs of life, says that it ends, and ends in order.
    pub fn stop_services(&mut self) {
        for service in &mut self.services {
            // More than one, so that it was not the one of the start.
            let first = service.next_note();
            assert_eq!(first, format!("WATCHDOG_USEC={WATCHDOG_US}\nWATCHDOG=1"));
            for _ in 0..3 {
                assert_eq!(service.next_note(), "WATCHDOG=1");
            }
            kill(Pid::from_raw(service.child.id() as i32), Signal::SIGTERM).unwrap();
            let mut note = service.next_note();
            while note == "WATCHDOG=1" {
                note = service.next_note();
            }
            assert_eq!(note, "STOPPING=1");
            let status = service.child.wait().unwrap();
            assert!(
                status.success(),
                "{:?} {:?}",
                status.code(),
                status.signal()
            );
        }
        self.services.clear();
    }
}

impl Service {
    /// What it says next to its supervisor.
    fn next_note(&self) -> String {
        let mut buffer = [0; NOTE_BYTES_MAX];
        let count = self
            .notes
            .recv(&mut buffer)
            .expect("a service says how it is");
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for service in &mut self.services {
            // It may have ended by itself.
            service.child.kill().ok();
            service.child.wait().ok();
        }
    }
}

/// A program in a new network and in this root.
fn into(root: &Path, program: &OsStr) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net").arg("chroot").arg(root).arg(program);
    command
}

/// A program in the network of a process and in this root.
fn enter(pid: Pid, root: &Path, program: &OsStr) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net"));
    command.arg("chroot").arg(root).arg(program);
    command
}

/// The settings of a unit file; a setting may be there more than once.
fn settings(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=') {
            settings
                .entry(name.to_owned())
                .or_default()
                .push(value.to_owned());
        }
    }
    settings
}
