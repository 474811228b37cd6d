//! A network on this machine whose links can be cut: a network namespace for each host, all joined by a bridge in a
//! namespace of its own. This process takes part in it by one more link, which is never cut.
//!
//! It takes root, iproute2 and nftables.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio, id},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Some hosts. All is taken down when it is dropped.
#[derive(Debug)]
pub struct Network {
    /// What the names of its namespaces begin with; also the name of this process's link.
    name: String,
    subnet: u8,
    hosts: usize,
}

impl Network {
    /// Sets up a network of so many hosts, each of which reaches all others.
    ///
    /// # Errors
    /// Says what is not permitted here, or missing.
    pub fn new(hosts: usize) -> Result<Self, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        remove_what_others_left();
        let name = format!("{PREFIX}{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let network = Self { name, subnet: free_subnet()?, hosts };
        network.build().map_err(|error| format!("a network can't be set up here (it takes root): {error}"))?;
        Ok(network)
    }

    /// How many hosts there are.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    pub(super) fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    pub(super) fn address(&self, host: usize) -> String {
        format!("10.213.{}.{}", self.subnet, host + 1)
    }

    /// From now on what one host sends to another is lost, for each of these pairs, all at the same instant, and for no
    /// other pairs.
    ///
    /// # Panics
    /// If that can't be done: it could before.
    pub fn cut(&self, links: &[(usize, usize)]) {
        let pair = |(from, to): &(usize, usize)| format!("{} . {}", self.address(*from), self.address(*to));
        let pairs: Vec<String> = links.iter().map(pair).collect();
        let mut rules = "flush set bridge cuts lost\n".to_owned();
        if !pairs.is_empty() {
            rules += &format!("add element bridge cuts lost {{ {} }}\n", pairs.join(", "));
        }
        self.filter(&rules).expect("it could be done before");
    }

    fn build(&self) -> Result<(), String> {
        let bridge = self.bridge();
        run(&["netns", "add", &bridge])?;
        run(&["-n", &bridge, "link", "add", "bridge", "type", "bridge"])?;
        run(&["-n", &bridge, "link", "set", "bridge", "up"])?;
        run(&["link", "add", &self.name, "type", "veth", "peer", "name", "tests", "netns", &bridge])?;
        run(&["-n", &bridge, "link", "set", "tests", "master", "bridge", "up"])?;
        run(&["address", "add", &format!("10.213.{}.254/24", self.subnet), "dev", &self.name])?;
        run(&["link", "set", &self.name, "up"])?;
        for host in 0..self.hosts {
            let (namespace, port) = (self.namespace(host), format!("host{host}"));
            run(&["netns", "add", &namespace])?;
            run(&["-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            run(&["-n", &bridge, "link", "set", &port, "master", "bridge", "up"])?;
            run(&["-n", &namespace, "address", "add", &format!("{}/24", self.address(host)), "dev", "eth0"])?;
            run(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            run(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        self.filter(CUTS)
    }

    fn filter(&self, rules: &str) -> Result<(), String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.bridge(), "nft", "-f", "-"]);
        succeed(command, rules)
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // With a namespace its links go, and with these their other ends.
        for host in 0..self.hosts {
            drop(run(&["netns", "delete", &self.namespace(host)]));
        }
        drop(run(&["netns", "delete", &self.bridge()]));
    }
}

/// Runs `ip`.
fn run(args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(args);
    succeed(command, "")
}

fn succeed(mut command: Command, input: &str) -> Result<(), String> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let given = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match (output.status.success(), given) {
        (true, Some(Ok(()))) => Ok(()),
        _ => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// One that no interface of this machine is in.
fn free_subnet() -> Result<u8, String> {
    let output =
        Command::new("ip").args(["-4", "-oneline", "address"]).output().map_err(|error| format!("ip: {error}"))?;
    let used = String::from_utf8_lossy(&output.stdout).into_owned();
    let from = id() as u8;
    let mut subnets = (0..=u8::MAX).map(|number| from.wrapping_add(number));
    subnets.find(|subnet| !used.contains(&format!(" 10.213.{subnet}."))).ok_or_else(|| "10.213.0.0/16 is in use".into())
}

/// Whoever was killed could not take down what it had set up.
fn remove_what_others_left() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for name in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.split_whitespace().next()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            drop(run(&["netns", "delete", name]));
        }
    }
}

/// With a process's number behind it, at most fifteen characters, which is what Linux allows for an interface.
const PREFIX: &str = "dhtd-";

/// In the bridge's namespace, which sees what every host sends to any other: one set for all that is lost, so that a cut
/// is one change.
const CUTS: &str = "
    add table bridge cuts
    add set bridge cuts lost { type ipv4_addr . ipv4_addr; }
    add chain bridge cuts forward { type filter hook forward priority 0; }
    add rule bridge cuts forward ip saddr . ip daddr @lost drop
";
