//! Docker or Podman, by its command line: what an image is, and its files. Unaware of
//! compilers.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use crate::sandbox::privileges;

/// Programs that are an engine, the first choice first.
const PROGRAMS: [&str; 2] = ["docker", "podman"];
/// How long an engine may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long it may take for all files of an image.
const EXPORT_MAX: Duration = Duration::from_secs(15 * 60);
/// Time between two looks whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes of what an engine says that are read.
const SAID_BYTES_MAX: u64 = 64 << 10;
/// What is asked of an image, a line each; its environment comes last.
const FORMAT: &str =
    "{{.Id}}\n{{.Os}}\n{{.Architecture}}\n{{.Size}}\n{{range .Config.Env}}{{println .}}{{end}}";
/// What a container runs that is never started.
const NOTHING: &str = "true";

/// A container engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    program: PathBuf,
}

/// An image that this machine can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As the operator calls it.
    pub name: String,
    /// What stands for its content: `sha256:` and 64 digits, or these alone.
    pub id: String,
    /// Bytes of all its files, about.
    pub bytes: u64,
    /// Environment of what runs in it.
    pub environment: Vec<(OsString, OsString)>,
}

impl Engine {
    /// Looks for an engine in PATH.
    ///
    /// # Errors
    /// Words: there is none, or none answers.
    pub fn find() -> Result<Self, String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut silent = None;
        for program in PROGRAMS {
            let mut places = env::split_paths(&path).map(|folder| folder.join(program));
            let Some(program) = places.find(|place| place.is_absolute() && place.is_file()) else {
                continue;
            };
            let engine = Engine { program };
            match engine.ask(&["version", "--format", "{{.Server.Version}}"]) {
                Ok(_) => return Ok(engine),
                Err(why) => {
                    let program = engine.program.display();
                    let say = || {
                        format!(
                            "{program} does not answer: {why}; start it ('systemctl start \
                             docker'), let this user at it, or say where it listens \
                             (DOCKER_HOST)"
                        )
                    };
                    silent.get_or_insert_with(say);
                }
            }
        }
        let none = || "neither docker nor podman is in PATH; install one of them".to_owned();
        Err(silent.unwrap_or_else(none))
    }

    /// The engine at `program`, whether it answers or not.
    pub fn at(program: &Path) -> Self {
        Engine {
            program: program.to_path_buf(),
        }
    }

    /// Where its program is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn name(&self) -> &str {
        let name = self.program.file_name().and_then(OsStr::to_str);
        name.unwrap_or("the engine")
    }

    /// What is called `name`.
    ///
    /// # Errors
    /// Words: there is no such image here, or it is for another machine.
    pub fn image(&self, name: &str) -> Result<Image, String> {
        let said = self.ask(&["image", "inspect", "--format", FORMAT, name]);
        let engine = self.name();
        let said = said.map_err(|why| {
            format!("{engine} has no image {name} here ({why}); '{engine} pull {name}' brings one")
        })?;
        let image = parse(name, &said).ok_or_else(|| {
            format!("{engine} says of the image {name} what is not understood: {said:.200?}")
        })?;
        let (os, architecture) = image.1;
        let own = (env::consts::OS, architecture_of_images());
        if (&*os, &*architecture) != own {
            let own = format!("{}/{}", own.0, own.1);
            return Err(format!(
                "the image {name} is for {os}/{architecture}, and this machine is {own}; \
                 '{engine} pull --platform {own} {name}' brings one for it, if there is one"
            ));
        }
        Ok(image.0)
    }

    /// Writes all files of the image with `id` to `folder`, by way of a container that is
    /// called `container` and never started.
    ///
    /// # Errors
    /// Words: the engine's, or tar's.
    pub fn export(&self, id: &str, container: &str, folder: &Path) -> Result<(), String> {
        self.remove(container);
        let create = [
            "create",
            "--name",
            container,
            "--network",
            "none",
            id,
            NOTHING,
        ];
        self.ask(&create)?;
        let exported = self.export_container(container, folder);
        self.remove(container);
        exported
    }

    fn export_container(&self, container: &str, folder: &Path) -> Result<(), String> {
        let started = |program: &Path, error| format!("{}: {error}", program.display());
        let mut export = quiet(&self.program, &["export", container]);
        let mut export = export
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| started(&self.program, error))?;
        let tar = Path::new("tar");
        let extract = |files: Option<ChildStdout>| {
            let mut extract = quiet(tar, &["-x", "-o", "-f", "-", "-C"]);
            extract.arg(folder).stdout(Stdio::null());
            extract.stdin(files.map_or_else(Stdio::null, Stdio::from));
            // With it goes this process's end of the pipe: tar alone keeps the engine at it.
            extract.spawn().map_err(|error| started(tar, error))
        };
        let extracted = extract(export.stdout.take()).and_then(|tar| said(tar, EXPORT_MAX, 0));
        let exported = said(export, ANSWER_MAX, SAID_BYTES_MAX);
        let named = |program: &str, why| format!("{program}: {why}");
        extracted.map_err(|why| named("tar", why))?;
        exported.map_err(|why| named(self.name(), why))?;
        Ok(())
    }

    /// Removes a container, if it is there.
    pub fn remove(&self, container: &str) {
        // What can't be removed is in the way of the next one, which then says so.
        let _ = self.ask(&["rm", "--force", container]);
    }

    /// Runs the engine, and gives what it says.
    fn ask(&self, words: &[&str]) -> Result<String, String> {
        let mut command = quiet(&self.program, words);
        let child = command.stdout(Stdio::piped()).spawn();
        let child = child.map_err(|error| error.to_string())?;
        let said = said(child, ANSWER_MAX, SAID_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

/// `program` with `words`, which ends when this thread does.
pub fn quiet(program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(privileges::die_with_parent) };
    }
    command
}

/// What `child` says on stdout until it ends, cut to `bytes_max`.
///
/// # Errors
/// What it says on stderr: it failed, or took longer than `max`.
pub fn said(mut child: Child, max: Duration, bytes_max: u64) -> Result<Vec<u8>, String> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = thread::spawn(move || read(out, bytes_max));
    let err = thread::spawn(move || read(err, SAID_BYTES_MAX));
    let ended = wait(&mut child, max);
    let read = |reader: thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    let (out, err) = (read(out), read(err));
    match ended {
        Ok(status) if status.success() => Ok(out),
        Ok(status) => {
            let err = String::from_utf8_lossy(&err);
            let line = err.lines().map(str::trim).find(|line| !line.is_empty());
            Err(line.map_or_else(|| status.to_string(), |line| format!("{line:.300}")))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What comes through a pipe. More than can be meant is read and dropped, so that nobody
/// waits.
fn read(pipe: Option<impl Read>, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.by_ref().take(bytes_max).read_to_end(&mut bytes);
        let _ = io::copy(&mut pipe, &mut io::sink());
    }
    bytes
}

fn wait(child: &mut Child, max: Duration) -> io::Result<ExitStatus> {
    let until = Instant::now() + max;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            let why = format!("no answer within {} s", max.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// An image, its system and its architecture, from what [`FORMAT`] asks for.
fn parse(name: &str, said: &str) -> Option<(Image, (String, String))> {
    let mut lines = said.lines();
    let mut next = || lines.next().map(str::to_owned);
    let (id, os, architecture) = (next()?, next()?, next()?);
    let bytes = next()?.parse().ok()?;
    let digits = id.strip_prefix("sha256:").unwrap_or(&id);
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let environment = lines.filter_map(|line| line.split_once('='));
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let image = Image {
        name: name.to_owned(),
        id,
        bytes,
        environment: environment.collect(),
    };
    Some((image, (os, architecture)))
}

/// This machine's architecture, as images name it (Go's words).
fn architecture_of_images() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}

/// Whether `name` can be given to an engine: it is no option.
pub fn is_name(name: &str) -> bool {
    let is_odd = |byte: u8| byte.is_ascii_control() || byte == b' ';
    !name.is_empty() && !name.starts_with('-') && !name.as_bytes().iter().copied().any(is_odd)
}

/// The value of the variable `name` in `environment`.
pub fn variable<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    let mut all = environment.iter();
    let found = all.find(|(known, _)| known.as_bytes() == name.as_bytes());
    found.map(|(_, value)| value.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_say_of_an_image() {
        let id = format!("sha256:{:064x}", 7);
        let said = format!("{id}\nlinux\narm64\n1234\nPATH=/usr/bin\nCC=/usr/xcc/a=b\n\n");
        let (image, machine) = parse("x:1", &said).expect("an image");
        assert_eq!((image.id, image.bytes), (id, 1234));
        assert_eq!(machine, ("linux".to_owned(), "arm64".to_owned()));
        assert_eq!(
            variable(&image.environment, "CC"),
            Some(OsStr::new("/usr/xcc/a=b"))
        );
        assert_eq!(variable(&image.environment, "CXX"), None);
        for odd in ["", "x\nlinux\namd64\n1\n", &said.replace("1234", "much")] {
            assert_eq!(parse("x", odd), None, "{odd}");
        }
    }

    #[test]
    fn names_that_are_options_are_none() {
        for name in ["debian:13", "ghcr.io/a/b@sha256:00", "localhost:5000/x"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "--privileged", "-v", "a b", "a\nb"] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
