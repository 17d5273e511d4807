//! A container engine, and images that are made here: Docker as it runs, or a daemon of the
//! tests' own, or Podman.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hg_proto::compiler::packing::Packed;
use hg_proto::compiler::probe;
use hg_proto::compiler::toolchain::Language;
use hg_proto::v1::shipped_file::Kind;
use hg_proto::wire::digest::Digest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Outcome, run};
use crate::in_path;

/// How long a daemon may take until it answers, and until it has ended.
const DAEMON_TIME_MAX: Duration = Duration::from_secs(20);
/// Time between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// PATH in images, as Docker has it where nothing is said.
const IMAGE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An engine, and the images that were made in it, which go with this.
pub struct Engine {
    /// Its program's name.
    pub program: &'static str,
    /// PATH of workers, which find this one there and no other.
    path: TempDir,
    /// DOCKER_HOST of all who use it; `None`: where Docker is by default.
    pub host: Option<String>,
    images: Vec<String>,
    daemon: Option<(Child, TempDir)>,
}

impl Engine {
    /// Docker or else Podman.
    ///
    /// # Errors
    /// Words: none is to be had.
    pub fn get() -> Result<Engine, String> {
        Engine::of_docker().or_else(|why| Engine::of_podman().map_err(|no| format!("{why}; {no}")))
    }

    /// Docker as it answers, or a daemon that is started for this.
    ///
    /// # Errors
    /// Words: none is to be had.
    pub fn of_docker() -> Result<Engine, String> {
        let mut engine = Engine {
            program: "docker",
            path: path_to("docker")?,
            host: std::env::var("DOCKER_HOST").ok(),
            images: Vec::new(),
            daemon: None,
        };
        if engine.answers() {
            return Ok(engine);
        }
        engine.start()?;
        Ok(engine)
    }

    /// Podman, which has no daemon.
    ///
    /// # Errors
    /// Words: it is not to be had.
    pub fn of_podman() -> Result<Engine, String> {
        let engine = Engine {
            program: "podman",
            path: path_to("podman")?,
            host: None,
            images: Vec::new(),
            daemon: None,
        };
        match engine.answers() {
            true => Ok(engine),
            false => Err("podman does not answer".to_owned()),
        }
    }

    fn answers(&self) -> bool {
        let words = ["version", "--format", "{{.Server.Version}}"];
        run(&mut self.command(&words)).ok()
    }

    fn start(&mut self) -> Result<(), String> {
        let program = in_path("dockerd").filter(|_| geteuid().is_root());
        let program = program.ok_or("docker does not answer, and no daemon can be started")?;
        let place = tempfile::Builder::new().prefix("hg-engine-").tempdir();
        let place = place.map_err(|error| error.to_string())?;
        let at = |name: &str| place.path().join(name);
        let host = format!("unix://{}", at("socket").display());
        let log = File::create(at("log")).map_err(|error| error.to_string())?;
        let mut daemon = Command::new(program);
        daemon
            .args(["--host", &host, "--bridge=none", "--iptables=false"])
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = daemon.spawn().map_err(|error| error.to_string())?;
        let log = at("log");
        self.host = Some(host);
        let (child, _) = self.daemon.insert((child, place));
        let until = Instant::now() + DAEMON_TIME_MAX;
        let mut has_ended = child.try_wait().is_ok_and(|ended| ended.is_some());
        while !has_ended && Instant::now() < until {
            if self.answers() {
                return Ok(());
            }
            thread::sleep(LOOK_AGAIN);
            if let Some((child, _)) = &mut self.daemon {
                has_ended = child.try_wait().is_ok_and(|ended| ended.is_some());
            }
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        let last = said.lines().next_back().unwrap_or_default();
        Err(format!("dockerd does not come up: {last}"))
    }

    /// Its program with `words`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(words);
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    /// Leads the worker of `command` to this engine.
    pub fn lead(&self, command: &mut Command) {
        command.env("PATH", self.path.path());
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
    }

    /// Makes an image called `name` of the files in `root`, with `changes` as a Dockerfile
    /// has them.
    pub fn import(&mut self, name: &str, root: &Path, changes: &[String]) -> Outcome {
        let place = tempfile::tempdir().expect("a folder");
        let archive = place.path().join("root.tar");
        let mut tar = Command::new("tar");
        let packed = run(tar.arg("-cf").arg(&archive).arg("-C").arg(root).arg("."));
        assert!(packed.ok(), "{}", packed.words());
        let mut import = self.command(&["import"]);
        for change in changes {
            import.args(["--change", change]);
        }
        let made = run(import.arg(&archive).arg(name));
        if made.ok() {
            self.images.push(name.to_owned());
        }
        made
    }

    /// Makes an image called `name` with this machine's gcc for C, by the conventions of
    /// dockcross: CROSS_TRIPLE, CC outside of PATH, an entry point. `None`: there is no
    /// such gcc.
    pub fn image_of_gcc(&mut self, name: &str) -> Option<()> {
        let gcc = in_path("gcc")?;
        let probe = probe::probe(&gcc, None).ok()?;
        let packed = Packed::of(&probe, Language::C).ok()?;
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path();
        lay_out(&packed, root);
        // By which a container of it can be kept running. It needs what gcc does.
        if let Some(sleep) = in_path("sleep") {
            fs::create_dir_all(root.join("bin")).expect("a folder");
            fs::copy(sleep, root.join("bin/sleep")).expect("a program");
        }
        let driver = format!("{}-gcc", probe.target);
        let folder = root.join("opt/cross/bin");
        fs::create_dir_all(&folder).expect("a folder");
        symlink(&gcc, folder.join(&driver)).expect("a link");
        let changes = [
            format!("ENV PATH={IMAGE_PATH}"),
            format!("ENV CROSS_TRIPLE={}", probe.target),
            format!("ENV CC=/opt/cross/bin/{driver}"),
            "ENTRYPOINT [\"/dockcross/entrypoint.sh\"]".to_owned(),
        ];
        let made = self.import(name, root, &changes);
        assert!(made.ok(), "{}", made.words());
        Some(())
    }

    /// Makes a copy of `image`, called `name`, that says that it is for `architecture`.
    /// `None`: this engine does not take such a one.
    pub fn copy_for(&mut self, image: &str, name: &str, architecture: &str) -> Option<()> {
        let place = tempfile::tempdir().expect("a folder");
        let (archive, folder) = (place.path().join("image.tar"), place.path().join("image"));
        fs::create_dir(&folder).expect("a folder");
        let saved = run(self.command(&["save", image, "--output"]).arg(&archive));
        let unpacked = run(Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&folder));
        if !saved.ok() || !unpacked.ok() {
            return None;
        }
        let json =
            |path: &Path| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
        let manifest_path = folder.join("manifest.json");
        let mut manifest = json(&manifest_path)?;
        let config_path = folder.join(manifest[0]["Config"].as_str()?);
        let mut config = json(&config_path)?;
        config["architecture"] = architecture.into();
        manifest[0]["RepoTags"] = vec![name].into();
        fs::write(&config_path, config.to_string()).expect("a file");
        fs::write(&manifest_path, manifest.to_string()).expect("a file");
        let packed = run(Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&folder)
            .arg("."));
        let loaded = run(self.command(&["load", "--input"]).arg(&archive));
        if !packed.ok() || !loaded.ok() {
            return None;
        }
        self.images.push(name.to_owned());
        let format = ["image", "inspect", "--format", "{{.Architecture}}", name];
        let said = run(&mut self.command(&format));
        (said.stdout.trim_ascii() == architecture.as_bytes()).then_some(())
    }

    /// The container by which the worker with the state folder `state` looks into images, if
    /// it is there, running or not.
    pub fn container_of(&self, state: &Path) -> Option<String> {
        let folder = state.canonicalize().expect("a path").join("images");
        let digest = Digest::of(folder.as_os_str().as_bytes()).to_hex();
        let name = format!("hg-worker-lite-{}", &digest[..16]);
        let filter = format!("name=^/?{name}$");
        let mut list = self.command(&["ps", "--all", "--filter", &filter]);
        let list = run(list.args(["--format", "{{.Names}}"]));
        (list.stdout.trim_ascii() == name.as_bytes()).then_some(name)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for image in std::mem::take(&mut self.images) {
            run(&mut self.command(&["rmi", "--force", &image]));
        }
        if let Some((mut daemon, _place)) = self.daemon.take() {
            let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
            let until = Instant::now() + DAEMON_TIME_MAX;
            while daemon.try_wait().is_ok_and(|ended| ended.is_none()) {
                if Instant::now() > until {
                    let _ = daemon.kill();
                }
                thread::sleep(LOOK_AGAIN);
            }
        }
    }
}

/// A folder with no programs in it but `engine` and what unpacks an image.
fn path_to(engine: &str) -> Result<TempDir, String> {
    let place = tempfile::Builder::new().prefix("hg-engine-").tempdir();
    let place = place.map_err(|error| error.to_string())?;
    for name in [engine, "tar"] {
        let program = in_path(name).ok_or_else(|| format!("no {name} in PATH"))?;
        symlink(program, place.path().join(name)).map_err(|error| error.to_string())?;
    }
    Ok(place)
}

/// Writes the files of a toolchain below `root`, each at its own path.
fn lay_out(packed: &Packed, root: &Path) {
    for file in &packed.shipment.files {
        let path: PathBuf = root.join(OsStr::from_bytes(&file.path[1..]));
        let above = path.parent().unwrap_or(root);
        fs::create_dir_all(above).expect("a folder");
        match file.kind.as_ref().expect("a kind") {
            Kind::Digest(digest) => {
                let digest = digest[..].try_into().expect("a digest");
                fs::copy(&packed.sources[&digest], &path).expect("a file");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
            }
            Kind::Link(target) => symlink(OsStr::from_bytes(target), &path).expect("a link"),
            Kind::Folder(_) => fs::create_dir_all(&path).expect("a folder"),
            Kind::Mark(_) => drop(File::create(&path).expect("a file")),
        }
    }
}
