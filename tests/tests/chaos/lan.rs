//! Coordinators found by multicast DNS, in network namespaces for several hosts on one
//! bridge. Takes root and `ip`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hg_proto::lan::announcement::{SERVICE, SERVICE_NAME_BYTES};
use hg_proto::secure::tls::hex;
use hg_proto::secure::token::Token;
use hg_tests::command::{Outcome, run, run_within, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::programs::programs;
use hg_tests::{grid, in_path, skip};
use mdns_sd::{ServiceDaemon, ServiceInfo};
use nix::sched::{CloneFlags, setns};

use crate::link::ip;

/// What anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Hosts on a bridge, gone with it when dropped.
struct Lan {
    /// How the names of its namespaces begin.
    name: String,
    hosts: usize,
    folder: tempfile::TempDir,
}

/// A coordinator on a host of a LAN.
struct Coordinator {
    daemon: Daemon,
    folder: PathBuf,
}

impl Lan {
    /// `hosts` hosts, each with IPv4 and IPv6.
    ///
    /// # Errors
    /// Words: why there can be none here.
    fn lay(tag: &str, hosts: usize) -> Result<Lan, String> {
        let folder = tempfile::Builder::new().prefix("hg-lan-").tempdir();
        let lan = Lan {
            name: format!("hgl{tag}{}", std::process::id()),
            hosts,
            folder: folder.map_err(|error| error.to_string())?,
        };
        let bridge = lan.bridge();
        ip(&format!("netns add {bridge}"))?;
        ip(&format!(
            "-n {bridge} link add lan type bridge forward_delay 0"
        ))?;
        ip(&format!("-n {bridge} link set lan up"))?;
        for number in 0..hosts {
            let host = lan.host(number);
            for words in [
                format!("netns add {host}"),
                format!("-n {host} link set lo up"),
                format!("-n {host} link add eth0 type veth peer name p{number} netns {bridge}"),
                format!("-n {bridge} link set p{number} master lan"),
                format!("-n {bridge} link set p{number} up"),
                format!("-n {host} addr add {}/24 dev eth0", lan.address(number)),
                format!("-n {host} addr add fd00::{}/64 dev eth0 nodad", number + 1),
                format!("-n {host} link set eth0 up"),
            ] {
                ip(&words)?;
            }
            fs::create_dir(lan.home(number)).map_err(|error| error.to_string())?;
        }
        Ok(lan)
    }

    fn bridge(&self) -> String {
        format!("{}br", self.name)
    }

    fn host(&self, number: usize) -> String {
        format!("{}h{number}", self.name)
    }

    /// Its address for IPv4; 198.18.0.0/15 is for tests (RFC 2544).
    fn address(&self, number: usize) -> String {
        format!("198.18.0.{}", number + 1)
    }

    fn home(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("home-{number}"))
    }

    /// `program`, to be run on a host.
    fn command(&self, number: usize, program: &Path) -> Command {
        let mut command = scrubbed("ip", &self.home(number), &self.home(number));
        command
            .args(["netns", "exec", &self.host(number)])
            .arg(program);
        command
    }

    /// `hg-coord serve WORDS` on a host, with its state in `folder`.
    fn coordinator(&self, number: usize, folder: &str, words: &[&str]) -> Coordinator {
        let folder = self.folder.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let mut command = self.command(number, &programs().coordinator);
        let state = folder.join("coordinator");
        command
            .args(["serve", "--http", "off", "--state"])
            .arg(state);
        command.args(words);
        let log = folder.join(format!("log-{number}"));
        Coordinator {
            daemon: Daemon::start("coordinator", &mut command, log),
            folder,
        }
    }

    /// `hg-worker-lite serve` on a host, which is told nothing but `token`.
    fn worker(&self, number: usize, token: &str) -> Daemon {
        let home = self.home(number);
        let mut command = self.command(number, &programs().worker);
        command.args([
            "serve",
            "--dedicated",
            "--slots",
            "2",
            "--http",
            "127.0.0.1:0",
        ]);
        command.arg("--state").arg(home.join("worker"));
        command.env("HG_TOKEN", token);
        Daemon::start("worker", &mut command, home.join("worker.log"))
    }

    fn hgbuild(&self, number: usize, words: &[&str]) -> Outcome {
        let mut command = self.command(number, &programs().client);
        run_within(command.args(words), PATIENCE)
    }

    /// Joins a host's user by `token`.
    fn join(&self, number: usize, token: &str) -> Outcome {
        let mut command = self.command(number, &programs().client);
        run(command.arg("join").env("HG_TOKEN", token))
    }

    /// What a compile on a host says of where it went.
    fn compile(&self, number: usize) -> String {
        let home = self.home(number);
        fs::write(home.join("a.c"), "int a;\n").unwrap();
        let mut command = self.command(number, &programs().client);
        // So that it has to travel, and is not found.
        command
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_CACHE_MAX_SIZE", "0");
        command.args(["-v", "gcc", "-c", "a.c", "-o", "a.o"]);
        let outcome = run_within(&mut command, PATIENCE);
        assert!(outcome.ok(), "{}", outcome.words());
        String::from_utf8_lossy(&outcome.stderr).into_owned()
    }

    /// Comes back when compiles from a host are done by a worker.
    fn until_remote(&self, number: usize) {
        let began = Instant::now();
        loop {
            let said = self.compile(number);
            if said.contains("remote") {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{said}");
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // Whatever of it there is: it may have been laid in part.
        for number in 0..self.hosts {
            let _ = ip(&format!("netns del {}", self.host(number)));
        }
        let _ = ip(&format!("netns del {}", self.bridge()));
    }
}

impl Coordinator {
    fn token(&self, role: &str) -> String {
        grid::token(programs(), &self.folder, &["--role", role, "--name", role])
    }

    fn port(&self) -> u16 {
        let address = self.daemon.address("grid");
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

/// A LAN, unless this machine has none.
fn lan(tag: &str, hosts: usize) -> Option<Lan> {
    let lan = Lan::lay(tag, hosts);
    lan.map_err(|why| skip("coordinators on a LAN", &why)).ok()
}

/// Comes back when the log of `daemon` has `word` in it.
fn until_said(daemon: &Daemon, word: &str) {
    let began = Instant::now();
    while !daemon.stderr().contains(word) {
        assert!(
            began.elapsed() < PATIENCE,
            "no {word}:\n{}",
            daemon.stderr()
        );
        assert!(daemon.lives_for(LOOK_AGAIN), "{}", daemon.stderr());
    }
}

fn text(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

#[test]
fn a_coordinator_is_found_and_found_again_and_told_from_another() {
    let Some(lan) = lan("a", 4) else {
        return;
    };
    let ours = lan.coordinator(0, "ours", &["--listen", "[::]:0"]);
    let other = lan.coordinator(3, "other", &["--listen", "0.0.0.0:0"]);
    assert_eq!(ours.daemon.hello["mdns"], true);

    let worker = lan.worker(1, &ours.token("worker"));
    until_said(&worker, "found the coordinator at");
    // Who joins listens for two seconds, and gives up then.
    let joined = lan.join(2, &ours.token("client"));
    assert!(joined.ok(), "{}", joined.words());
    let at = format!("{}:{}", lan.address(0), ours.port());
    assert!(text(&joined).contains(&at), "{}", joined.words());
    lan.until_remote(2);

    // Both are shown, and which one is ours.
    let doctor = text(&lan.hgbuild(2, &["doctor"]));
    let grids: Vec<&str> = doctor
        .lines()
        .filter(|line| line.contains("grid "))
        .collect();
    assert_eq!(grids.len(), 2, "{doctor}");
    let joined = grids
        .iter()
        .filter(|line| line.contains("the one that was joined"));
    assert!(joined.clone().count() == 1 && joined.clone().all(|line| line.contains(&at)));
    // And somebody whose grid is neither is told so.
    let mut stranger = Token::parse(&ours.token("client")).unwrap();
    stranger.fingerprint = [7; 32];
    let refused = lan.join(1, &stranger.to_text());
    assert!(
        !refused.ok() && refused.words().contains(&at),
        "{}",
        refused.words()
    );

    // To another host, another port, and IPv6 alone.
    drop(ours);
    let port = other.port();
    let there = format!("[fd00::4]:{}", if port == 9100 { 9101 } else { 9100 });
    let moved = lan.coordinator(3, "ours", &["--listen", &there]);
    lan.until_remote(2);
    let status = text(&lan.hgbuild(2, &["status"]));
    assert!(status.contains(&there), "{status}");
    assert!(worker.stderr().contains(&there), "{}", worker.stderr());

    // What was found costs a compile nothing, and what was left is gone.
    let found = fs::read_dir(lan.home(2).join(".hybridgrid/run")).unwrap();
    let found = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        found
            .filter(|name| name.starts_with("coordinator-"))
            .count(),
        1
    );
    assert!(lan.hgbuild(2, &["leave"]).ok());
    assert!(!lan.hgbuild(2, &["status"]).ok());
    assert!(!lan.home(2).join(".hybridgrid/token").exists());
    assert!(!lan.hgbuild(2, &["leave"]).ok());
    drop((moved, other));
}

/// Announces, on a host, a coordinator with `fingerprint` at `address`.
fn announce(
    lan: &Lan,
    number: usize,
    fingerprint: &str,
    address: &str,
    port: u16,
) -> ServiceDaemon {
    let host = File::open(format!("/run/netns/{}", lan.host(number))).unwrap();
    let (address, fingerprint) = (address.to_owned(), fingerprint.to_owned());
    let announce = move || {
        // What this thread starts is on that host too.
        setns(host, CloneFlags::CLONE_NEWNET).unwrap();
        let daemon = ServiceDaemon::new().unwrap();
        daemon.set_service_name_len_max(SERVICE_NAME_BYTES).unwrap();
        let properties = [
            ("version", "0.1.0"),
            ("grid", "0badc0de"),
            ("host", "forger"),
            ("fingerprint", &fingerprint),
        ];
        let service = ServiceInfo::new(SERVICE, "f", "f.local.", &*address, port, &properties[..]);
        let mut service = service.unwrap();
        service.set_requires_probe(false);
        daemon.register(service).unwrap();
        daemon
    };
    thread::spawn(announce).join().unwrap()
}

#[test]
fn whoever_announces_what_is_anothers_is_told_nothing() {
    let Some(lan) = lan("f", 4) else {
        return;
    };
    // Where the forger leads to there is somebody who would take a token and say that it is
    // none of its own.
    let trap = lan.coordinator(3, "trap", &["--listen", "0.0.0.0:0", "--no-mdns"]);
    assert_eq!(trap.daemon.hello.get("mdns"), None);
    let ours = lan.coordinator(0, "ours", &["--listen", "0.0.0.0:0"]);
    let client = ours.token("client");
    let fingerprint = hex(&Token::parse(&client).unwrap().fingerprint);
    let forger = announce(&lan, 3, &fingerprint, &lan.address(3), trap.port());

    // Both are heard, and the right one is taken.
    let at = format!("{}:{}", lan.address(0), ours.port());
    let joined = lan.join(2, &client);
    assert!(
        joined.ok() && text(&joined).contains(&at),
        "{}",
        joined.words()
    );
    let worker = lan.worker(1, &ours.token("worker"));
    until_said(&worker, &format!("found the coordinator at {at}"));
    lan.until_remote(2);
    let doctor = text(&lan.hgbuild(2, &["doctor"]));
    assert!(doctor.contains("0badc0de on forger"), "{doctor}");

    // With the forger alone there is nobody.
    drop(ours);
    assert!(lan.compile(2).contains("local"));
    let refused = lan.join(2, &client);
    let words = refused.words();
    assert!(
        !refused.ok() && words.contains("does not show its certificate"),
        "{words}"
    );
    assert!(!lan.hgbuild(2, &["status"]).ok());
    until_said(&worker, "next attempt");
    // Who shows a token there is written down.
    let log = trap.daemon.stderr();
    assert!(!log.contains("audit"), "{log}");
    let shown = lan.hgbuild(
        2,
        &[
            "--coordinator",
            &format!("{}:{}", lan.address(3), trap.port()),
            "status",
        ],
    );
    assert!(!shown.ok());
    assert!(
        !trap.daemon.stderr().contains("audit"),
        "{}",
        trap.daemon.stderr()
    );
    drop(forger);
}

/// avahi-daemon on a host, with what `coordinator` is as a service of its own.
struct Avahi(Child);

impl Avahi {
    fn start(lan: &Lan, number: usize, service: Option<String>) -> Option<Avahi> {
        let daemon = in_path("avahi-daemon").or_else(|| {
            let path = PathBuf::from("/usr/sbin/avahi-daemon");
            path.exists().then_some(path)
        })?;
        let etc = lan.home(number).join("avahi");
        fs::create_dir_all(etc.join("services")).unwrap();
        let settings =
            "[server]\nenable-dbus=no\nuse-ipv6=yes\n[publish]\n[reflector]\n[rlimits]\n";
        fs::write(etc.join("avahi-daemon.conf"), settings).unwrap();
        if let Some(service) = service {
            fs::write(etc.join("services/hybridgrid.service"), service).unwrap();
        }
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && \
             mount --bind '{}' /etc/avahi && exec '{}' --no-drop-root --no-chroot --no-rlimits",
            etc.display(),
            daemon.display()
        );
        let log = File::create(etc.join("log")).unwrap();
        let mut command = lan.command(number, Path::new("unshare"));
        command
            .args(["-m", "sh", "-c", &script])
            .stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let avahi = Avahi(child);
        let began = Instant::now();
        let said = || fs::read_to_string(etc.join("log")).unwrap_or_default();
        while !said().contains("Server startup complete") {
            assert!(began.elapsed() < PATIENCE, "{}", said());
            thread::sleep(LOOK_AGAIN);
        }
        Some(avahi)
    }
}

impl Drop for Avahi {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn avahi_may_be_on_the_same_host_or_announce_it() {
    let Some(lan) = lan("v", 3) else {
        return;
    };
    // Both have port 5353 of one host.
    let Some(_beside) = Avahi::start(&lan, 0, None) else {
        return skip("beside avahi-daemon", "it is not installed");
    };
    let ours = lan.coordinator(0, "ours", &["--listen", "0.0.0.0:0"]);
    let _at_the_client = Avahi::start(&lan, 1, None);
    let client = ours.token("client");
    let joined = lan.join(1, &client);
    let at = format!("{}:{}", lan.address(0), ours.port());
    assert!(
        joined.ok() && text(&joined).contains(&at),
        "{}",
        joined.words()
    );
    drop(ours);

    // avahi alone says where it is.
    let ours = lan.coordinator(2, "ours", &["--listen", "0.0.0.0:0", "--no-mdns"]);
    let fingerprint = hex(&Token::parse(&client).unwrap().fingerprint);
    let properties = [
        "version=0.1.0".to_owned(),
        "grid=0a1b2c3d".to_owned(),
        "host=build".to_owned(),
        format!("fingerprint={fingerprint}"),
    ];
    let records: String = properties
        .iter()
        .map(|property| format!("<txt-record>{property}</txt-record>"))
        .collect();
    let service = format!(
        "<?xml version=\"1.0\" standalone='no'?>\n<service-group><name>grid</name><service>\
         <type>_hybridgrid-coord._tcp</type><port>{}</port>{records}</service></service-group>\n",
        ours.port()
    );
    let _announces = Avahi::start(&lan, 2, Some(service));
    let joined = lan.join(1, &client);
    let at = format!("{}:{}", lan.address(2), ours.port());
    assert!(
        joined.ok() && text(&joined).contains(&at),
        "{}",
        joined.words()
    );
}

/// dnsmasq on a host: a name server that knows where the coordinator of `lan.example` is.
struct NameServer(Child);

impl NameServer {
    fn start(lan: &Lan, number: usize, host: &str, port: u16) -> Option<NameServer> {
        let daemon = in_path("dnsmasq").or_else(|| {
            let path = PathBuf::from("/usr/sbin/dnsmasq");
            path.exists().then_some(path)
        })?;
        let log = lan.home(number).join("dnsmasq.log");
        let mut command = lan.command(number, &daemon);
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-hosts",
            ])
            .args([
                "--no-resolv",
                "--user=root",
                "--pid-file",
                "--log-facility=-",
            ])
            .arg(format!(
                "--srv-host=_hybridgrid-coord._tcp.lan.example,build.lan.example,{port}"
            ))
            .arg(format!("--host-record=build.lan.example,{host}"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        let server = NameServer(child);
        let began = Instant::now();
        let said = || fs::read_to_string(&log).unwrap_or_default();
        while !said().contains("started") {
            assert!(began.elapsed() < PATIENCE, "{}", said());
            thread::sleep(LOOK_AGAIN);
        }
        Some(server)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn name_servers_know_coordinators_that_announce_nothing() {
    let Some(lan) = lan("d", 3) else {
        return;
    };
    let ours = lan.coordinator(0, "ours", &["--listen", "0.0.0.0:0", "--no-mdns"]);
    let Some(_server) = NameServer::start(&lan, 2, &lan.address(0), ours.port()) else {
        return skip("the coordinator of a domain", "dnsmasq is not installed");
    };
    // The host's own resolver.
    let settings = lan.home(1).join("resolv.conf");
    let search = format!("nameserver {}\nsearch lan.example\n", lan.address(2));
    fs::write(&settings, search).unwrap();
    let script = |then: &str| {
        let mut command = lan.command(1, Path::new("unshare"));
        let bound = format!(
            "mount --bind '{}' /etc/resolv.conf && {then}",
            settings.display()
        );
        command.args(["-m", "sh", "-c", &bound]);
        command
    };
    let client = programs().client.display();
    let at = format!("{}:{}", lan.address(0), ours.port());
    let mut join = script(&format!("exec '{client}' join"));
    let joined = run(join.env("HG_TOKEN", ours.token("client")));
    assert!(
        joined.ok() && text(&joined).contains(&at),
        "{}",
        joined.words()
    );
    // Another coordinator's token finds none there, whoever the name server names.
    let stranger = lan.coordinator(2, "other", &["--listen", "0.0.0.0:0", "--no-mdns"]);
    let mut join = script(&format!("exec '{client}' join"));
    let refused = run(join.env("HG_TOKEN", stranger.token("client")));
    assert!(!refused.ok(), "{}", refused.words());
    assert!(
        !ours.daemon.stderr().contains("refused"),
        "{}",
        ours.daemon.stderr()
    );

    let worker = programs().worker.display();
    let state = lan.home(1).join("worker");
    let mut command = script(&format!(
        "exec '{worker}' serve --dedicated --slots 1 --http off --state '{}'",
        state.display()
    ));
    command.env("HG_TOKEN", ours.token("worker"));
    let worker = Daemon::start("worker", &mut command, lan.home(1).join("worker.log"));
    until_said(&worker, &format!("found the coordinator at {at}"));
}
