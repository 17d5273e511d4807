//! Certificates of the operator's own: who one is stands in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hg_proto::secure::tls::{ALPN_GRPC, ALPN_WORKER, Pki, Trust};
use hg_proto::v1::{Hello, from_worker};
use hg_tests::command::run_within;
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, coordinator, worker};
use hg_tests::hostile::{assert_remote, hello, refused};
use hg_tests::programs::programs;
use hg_tests::project::Project;
use hg_tests::running::PATIENCE;
use hg_tests::tls_peer::TlsPeer;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use tempfile::TempDir;

/// An authority and what it has issued, in files.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

fn pem(path: &Path, label: &str, der: &[u8]) {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    let text = lines.join("\n");
    let text = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
    fs::write(path, text).expect("a PEM file");
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("a certificate");
        pem(
            &folder.path().join("ca.pem"),
            "CERTIFICATE",
            certificate.der(),
        );
        Authority {
            folder,
            issuer: Issuer::new(parameters, key),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate with the names `hosts`, and the name `uri` if there is one.
    fn issue(&self, file: &str, hosts: &[&str], uri: &str) -> Pki {
        let key = KeyPair::generate().expect("a key");
        let hosts: Vec<String> = hosts.iter().map(|&host| host.into()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("names");
        if !uri.is_empty() {
            let uri = uri.try_into().expect("a URI");
            parameters.subject_alt_names.push(SanType::URI(uri));
        }
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        let (chain, secret) = (
            self.file(&format!("{file}.pem")),
            self.file(&format!("{file}.key")),
        );
        pem(&chain, "CERTIFICATE", certificate.der());
        pem(&secret, "PRIVATE KEY", &key.serialize_der());
        Pki {
            ca: Some(self.file("ca.pem")),
            certificate: Some(chain),
            key: Some(secret),
        }
    }
}

fn words(pki: &Pki) -> Vec<String> {
    let pairs = [
        ("--tls-ca", &pki.ca),
        ("--tls-cert", &pki.certificate),
        ("--tls-key", &pki.key),
    ];
    let given = pairs
        .into_iter()
        .filter_map(|(flag, file)| Some((flag, file.as_ref()?)));
    given
        .flat_map(|(flag, file)| [flag.to_owned(), file.to_string_lossy().into_owned()])
        .collect()
}

/// A grid of one worker; every one of them has a certificate.
struct Certified {
    authority: Authority,
    grid: Grid,
}

impl Certified {
    fn start(more: &[&str]) -> Certified {
        let authority = Authority::new();
        let server = authority.issue("server", &["127.0.0.1", "localhost"], "");
        let folder = tempfile::Builder::new()
            .prefix("hg-grid-")
            .tempdir()
            .expect("a folder");
        let server = words(&server);
        let mut all = vec!["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        all.extend(
            server
                .iter()
                .map(String::as_str)
                .chain(more.iter().copied()),
        );
        let started = coordinator(programs(), folder.path(), &all);
        let mut grid = Grid::around(programs(), folder, started);
        let pki = authority.issue("worker", &[], "hybridgrid://worker/pi-1");
        let mut command = worker(programs(), grid.folder(), "pi-1", &grid.address(), 2);
        let log = grid.folder().join("pi-1.log");
        // By a name that is in the certificate, and without the local token.
        let command = without_local(&grid, &mut command).args(words(&pki));
        grid.workers.push(Daemon::start("pi-1", command, log));
        grid.wait_for_workers(1);
        Certified { authority, grid }
    }

    /// A build with `pki` for all that there is to say who it is.
    fn build(&self, pki: &Pki) -> (Project, hg_tests::command::Outcome) {
        let project = Project::of(2);
        let mut make = project.hgbuild_make(&self.grid.address(), &["-j2"]);
        for (name, file) in [
            ("HG_TLS_CA", &pki.ca),
            ("HG_TLS_CERT", &pki.certificate),
            ("HG_TLS_KEY", &pki.key),
        ] {
            if let Some(file) = file {
                make.env(name, file);
            }
        }
        let outcome = run_within(without_local(&self.grid, &mut make), PATIENCE);
        (project, outcome)
    }

    /// It builds, but not on the grid.
    fn assert_refused(&self, what: &str, pki: &Pki, reason: &str) {
        let (project, outcome) = self.build(pki);
        assert!(outcome.ok(), "{what}: {}", outcome.words());
        let told = project.told();
        assert!(
            told.contains(reason) && !told.contains(" remote "),
            "{what}: {told}"
        );
    }

    fn dial(&self, pki: &Pki, protocol: &[u8]) -> std::io::Result<TlsPeer> {
        let trust = Trust::Authorities(pki.clone());
        TlsPeer::dial(&self.grid.address(), &trust, &[protocol])
    }
}

/// Takes away the tokens that the coordinator left for processes here: only a
/// certificate is left to `command`.
fn without_local<'a>(grid: &Grid, command: &'a mut Command) -> &'a mut Command {
    let port = grid
        .address()
        .rsplit_once(':')
        .map(|(_, port)| port.to_owned());
    let folder = hg_proto::secure::credentials::local_folder();
    for role in ["client", "worker", "admin"] {
        // Taken away before.
        let _ = fs::remove_file(folder.join(format!("{}.{role}", port.as_deref().unwrap_or(""))));
    }
    command
}

#[test]
fn who_one_is_stands_in_the_certificate() {
    let certified = Certified::start(&[]);
    let authority = &certified.authority;
    let user = authority.issue("user", &[], "hybridgrid://client/me");
    let (project, outcome) = certified.build(&user);
    assert_remote("a client's certificate", &project, outcome);
    assert!(certified.grid.coordinator.stderr().contains("joined from"));

    for (file, uri, reason) in [
        ("nobody", "", "no_token"),
        ("odd", "hybridgrid://root/me", "no_token"),
        ("other", "https://client/me", "no_token"),
        ("worker-2", "hybridgrid://worker/pi-2", "wrong_role"),
    ] {
        let before = refused(&certified.grid, reason);
        let pki = authority.issue(file, &["localhost"], uri);
        certified.assert_refused(file, &pki, "grid-refused");
        assert!(
            refused(&certified.grid, reason) > before,
            "{file}: {reason}"
        );
    }
    // Nor may a client work.
    let before = refused(&certified.grid, "wrong_role");
    let mut peer = certified.dial(&user, ALPN_WORKER).expect("a handshake");
    peer.say(from_worker::Kind::Hello(hello(1)));
    assert!(peer.goodbye().contains("client's token"));
    assert_eq!(refused(&certified.grid, "wrong_role"), before + 1);
    // One that works without a certificate must show a token.
    let nothing = Pki {
        ca: user.ca.clone(),
        ..Pki::default()
    };
    let mut peer = certified.dial(&nothing, ALPN_WORKER).expect("a handshake");
    peer.say(from_worker::Kind::Hello(hello(2)));
    assert!(peer.goodbye().contains("no token"));
    let token = certified.grid.token(&["--role", "worker"]);
    let mut peer = certified.dial(&nothing, ALPN_WORKER).expect("a handshake");
    peer.say(from_worker::Kind::Hello(Hello { token, ..hello(2) }));
    certified.grid.wait_for_workers(2);
}

#[test]
fn another_authority_is_none() {
    let certified = Certified::start(&[]);
    let other = Authority::new();
    // It does not believe ours, and ours does not believe it.
    let stranger = other.issue("user", &[], "hybridgrid://client/me");
    certified.assert_refused("its own authority", &stranger, "grid-unreachable");
    let mixed = Pki {
        ca: Some(certified.authority.file("ca.pem")),
        ..stranger
    };
    certified.assert_refused("another's certificate", &mixed, "grid-");
    // A coordinator of another name, which a good certificate is not for.
    let elsewhere = certified
        .authority
        .issue("elsewhere", &["other.example"], "");
    let folder = tempfile::tempdir().expect("a folder");
    let server = words(&elsewhere);
    let mut all = vec!["--listen", "127.0.0.1:0", "--http", "off"];
    all.extend(server.iter().map(String::as_str));
    let wrong = coordinator(programs(), folder.path(), &all);
    let user = certified
        .authority
        .issue("user", &[], "hybridgrid://client/me");
    let peer = TlsPeer::dial(
        &wrong.address("grid"),
        &Trust::Authorities(user),
        &[ALPN_GRPC],
    );
    let why = peer
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(why.contains("certificate"), "{why:?}");
}

#[test]
fn a_certificate_may_be_required() {
    let certified = Certified::start(&["--require-client-cert"]);
    let user = certified
        .authority
        .issue("user", &[], "hybridgrid://client/me");
    let (project, outcome) = certified.build(&user);
    assert_remote("with one", &project, outcome);
    let without = Pki {
        ca: user.ca.clone(),
        ..Pki::default()
    };
    certified.assert_refused("without one", &without, "grid-");
    // A good token does not help.
    let project = Project::of(1);
    let mut make = project.hgbuild_make(&certified.grid.address(), &[]);
    make.env("HG_TOKEN", certified.grid.token(&["--role", "client"]));
    let outcome = run_within(make.env("HG_TLS_CA", user.ca.expect("a file")), PATIENCE);
    assert!(outcome.ok(), "{}", outcome.words());
    let told = project.told();
    assert!(!told.contains(" remote "), "{told}");
}
